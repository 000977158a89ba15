"""Plain Celery with the lab's settings: what the lab's own queue is measured against."""

import functools

from celery import Celery

from webhooks.queue import celery_app


@functools.cache
def plain_app(url: str, queue: str, longest_work: float | None = None) -> Celery:
    """An app on Celery's own Redis transport: without an outbox."""
    app = celery_app.__wrapped__(url, queue, longest_work)
    app.conf.broker_transport = None
    return app
