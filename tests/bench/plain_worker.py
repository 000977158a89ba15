"""The worker of plain Celery: the work of a delivery, and no mark that it is done."""

import json

from lab.celery_app import PROCESS, broker_url, queue_name
from server import process_and_log_webhook

from .plain import plain_app

app = plain_app(broker_url(), queue_name(), 0.0)


@app.task(name=PROCESS)
def process(delivery: str, headers: dict[str, str], body: str) -> None:
    process_and_log_webhook(headers, json.loads(body))
