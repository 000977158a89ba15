"""What a worker of the task queue does: `celery -A lab.worker worker`.

A delivery is acknowledged when it has had its effect, so a worker that dies has it given to
another. Which attempts to make is decided here, not by the broker, so that all brokers agree.
"""

from __future__ import annotations

import json

from celery import Task
from celery.exceptions import Reject

from server import process_and_log_webhook, settings

from .celery_app import PROCESS, broker_url, celery_app, logger, queue_name
from .effects import Effects
from .queue_stamps import HEADER, stamped

MOST_ATTEMPTS = 3


class TooManyAttempts(Exception):
    """A delivery has been started and not ended as often as it may be."""


app = celery_app(broker_url(), queue_name(), settings.WORK_SECONDS)
effects = Effects.from_environment()


@app.task(bind=True, name=PROCESS)  # type: ignore[untyped-decorator]
def process(task: Task, delivery: str, headers: dict[str, str], body: str) -> None:
    """Process a delivery, and let it have its effect once; give up after `MOST_ATTEMPTS`.

    delivery: its id. headers: as the request had them. body: JSON.
    """
    worker = task.request.hostname
    start = effects.begin(delivery, worker)
    last = start.attempt >= MOST_ATTEMPTS
    try:
        with stamped(task.request.get(HEADER), start, last):
            if start.done:
                return
            if start.attempt > MOST_ATTEMPTS:
                raise TooManyAttempts(f"{MOST_ATTEMPTS} attempts, each of which ended its worker")
            process_and_log_webhook(headers, json.loads(body))
            effects.apply(delivery, headers.get("x-github-event", "unnamed"), worker)
    except Exception as error:
        logger.error(f"Attempt {start.attempt} at delivery {delivery} failed: {error!r}")
        if not last:
            raise Reject(error, requeue=True) from error
        effects.set_aside(delivery, repr(error), headers, body)
