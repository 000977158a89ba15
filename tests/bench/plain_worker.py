"""Plain Celery with the lab's settings: what the lab's own worker is measured against."""

import json

from lab.celery_app import PROCESS, broker_url, celery_app, queue_name
from server import process_and_log_webhook

app = celery_app(broker_url(), queue_name(), 0.0)


@app.task(name=PROCESS)
def process(delivery: str, headers: dict[str, str], body: str) -> None:
    process_and_log_webhook(headers, json.loads(body))
