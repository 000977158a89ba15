"""The worker of the playground's queue: `celery -A lab.playground.worker worker`."""

from __future__ import annotations

import inspect

from webhooks.queue import broker_and_queue, celery_app

from .works import WORKS, task_name

app = celery_app(*broker_and_queue(), works=True)

for name, work in WORKS.items():
    if not inspect.iscoroutinefunction(work):
        app.task(name=task_name(name))(work)
