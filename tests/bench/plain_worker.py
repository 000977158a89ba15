"""The worker of plain Celery: the work of a delivery, and no mark that it is done."""

import json

from server import process_and_log_webhook
from webhooks.queue import PROCESS, broker_and_queue

from .plain import plain_app

app = plain_app(*broker_and_queue(), 5.0)


@app.task(name=PROCESS)
def process(delivery: str, headers: dict[str, str], body: str) -> None:
    process_and_log_webhook(headers, json.loads(body), 0.0)
