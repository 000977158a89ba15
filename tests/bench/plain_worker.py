"""The worker of plain Celery: the work of a delivery, and one commit for its effect."""

import json
import uuid

from webhooks.queue import PROCESS, broker_and_queue, celery_app
from webhooks.work import process_and_log_webhook

from .plain import have_effect

app = celery_app(*broker_and_queue(), works=True)


@app.task(name=PROCESS)
def process(headers: dict[str, str], body: str) -> None:
    process_and_log_webhook(headers, json.loads(body), 0.0)
    have_effect(str(uuid.uuid4()), headers["x-github-event"])
