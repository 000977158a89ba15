"""The worker of the playground's queue: `celery -A lab.playground_worker worker`."""

from __future__ import annotations

from celery import Task

from .celery_app import broker_url, celery_app, queue_name
from .effects import Start
from .playground_app import MOST_SECONDS, PIECE, WORKS
from .queue_stamps import HEADER, stamped

ONLY = Start(number=1, attempt=1, before=None, done=False)

app = celery_app(broker_url(), queue_name(), MOST_SECONDS)


@app.task(bind=True, name=PIECE)  # type: ignore[untyped-decorator]
def piece(task: Task, work: str, seconds: float, fails: bool) -> None:
    """Do one piece of work, and try it once."""
    with stamped(task.request.get(HEADER), ONLY, last=True):
        WORKS[work](seconds, fails)
