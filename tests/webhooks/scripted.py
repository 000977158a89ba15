"""The service's worker, whose work is what a file says: that which the delivery's body names."""

import time
from pathlib import Path
from typing import Any

from webhooks import worker
from webhooks.worker import app as app  # what Celery looks for


def play(headers: dict[str, str], body: Any, seconds: float) -> None:
    script = Path(body)
    while not script.exists():
        time.sleep(0.01)
    match script.read_text():
        case "fail":
            raise ValueError("told to fail")
        case "hang":
            time.sleep(3600)


worker.process_and_log_webhook = play
