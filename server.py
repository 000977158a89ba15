"""A webhook service that answers first and works later, and its neighbours for comparison.

Run it with `uvicorn server:app`. What stands behind the endpoints is in `webhooks/`; what the
environment may set, in `webhooks/settings.py`.
"""

from typing import Annotated, Any

from fastapi import BackgroundTasks, FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exception_handlers import (
    http_exception_handler,
    request_validation_exception_handler,
)
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from webhooks import metrics
from webhooks.backlog import Backlog, TooMuchHeld, start_thread
from webhooks.intake import QueueUnavailable
from webhooks.lookout import readiness, service_ready, standing
from webhooks.mail import send_email, send_in_turn
from webhooks.queue import AnotherBody, accept
from webhooks.senders import signed
from webhooks.settings import settings
from webhooks.work import logger, parsed, process_and_log_webhook, redacted

app = FastAPI(
    title="Webhook service", max_body_size=settings().MAX_BODY_BYTES, lifespan=service_ready
)
app.state.work_seconds = settings().WORK_SECONDS
app.state.webhook_secret = settings().WEBHOOK_SECRET

bounds = settings().MOST_HELD, settings().MOST_HELD_BYTES
deliveries, arriving, mails = (Backlog(of, *bounds) for of in ("delivery", "queue", "mail"))


# Webhooks: one piece of work, handed over in four ways


@app.post("/webhook-test", status_code=202)
async def webhook_test(request: Request, background_tasks: BackgroundTasks) -> dict[str, str]:
    """Answer at once; the work runs after the answer has left."""
    logger.info("Webhook test endpoint called. Acknowledging request immediately.")
    headers = dict(request.headers)
    content = await read_content(request)
    work = deliveries.hold(process_and_log_webhook, len(content))
    body = parsed(headers, content)
    background_tasks.add_task(work, headers, body, app.state.work_seconds)
    return accepted("background")


@app.post("/webhook-test/inline", status_code=202)
async def webhook_test_inline(request: Request) -> dict[str, str]:
    """Work first, then answer: this caller waits, others do not."""
    logger.info("Webhook test endpoint called. Processing before the answer.")
    headers = dict(request.headers)
    content = await read_content(request)
    work = deliveries.hold(process_and_log_webhook, len(content))
    body = parsed(headers, content)
    await run_in_threadpool(work, headers, body, app.state.work_seconds)
    return accepted("inline")


@app.post("/webhook-test/thread", status_code=202)
async def webhook_test_thread(request: Request) -> dict[str, str]:
    """Answer at once; the work runs in a thread of its own, started before the answer."""
    logger.info("Webhook test endpoint called. Starting a thread.")
    headers = dict(request.headers)
    content = await read_content(request)
    work = deliveries.hold(process_and_log_webhook, len(content))
    body = parsed(headers, content)
    start_thread(work, headers, body, app.state.work_seconds)
    return accepted("thread")


@app.post("/webhook-test/queue", status_code=202)
async def webhook_test_queue(request: Request) -> dict[str, str]:
    """Answer when a database has the delivery; the work runs in a worker process."""
    logger.info("Webhook test endpoint called. Handing over to the task queue.")
    # A database writes deliveries to its disk: they must hold no secret either.
    headers = redacted(dict(request.headers))
    content = await read_content(request)
    await arriving.hold(accept, len(content))(headers, content)
    return accepted("queue")


# E-mail: the same, both ways

# ASCII only, and no white space: no line break can start a header of its own.
Email = Annotated[
    str, Query(max_length=254, pattern=r"^[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$")
]


@app.post("/send-email")
async def send_notification(email: Email, background_tasks: BackgroundTasks) -> dict[str, str]:
    """Answer at once; the mail goes out after the answer has left."""
    background_tasks.add_task(mails.hold(send_in_turn), email)
    return accepted("background", message="Email sent")


@app.post("/send-email/thread")
async def send_notification_thread(email: Email) -> dict[str, str]:
    """Answer at once; the mail goes out from a thread that FastAPI does not manage."""
    start_thread(mails.hold(send_email), email)
    return accepted("thread", message="Email sent")


# For whoever operates it


@app.get("/ping")
async def ping() -> dict[str, str]:
    """Show that the service is there."""
    return {"message": "pong"}


@app.get("/health")
async def health() -> dict[str, str]:
    """Show that the process is alive, whatever it depends on."""
    return {"status": "alive"}


@app.get("/ready")
async def ready(response: Response) -> dict[str, Any]:
    """Show whether deliveries can be accepted (503 if not), and what would make them late."""
    accepting, parts = await readiness()
    response.status_code = 200 if accepting else 503
    return parts


@app.get("/metrics")
async def show_metrics() -> Response:
    """Show what this process has counted, and how the queue's deliveries stand."""
    return Response(metrics.shown(await standing()), media_type=CONTENT_TYPE_LATEST)


# What a delivery must satisfy before it is accepted


async def read_content(request: Request) -> bytes:
    """Return the body of a delivery as the bytes that came.

    Raises HTTPException, 413, for a body over the limit; WrongSignature.
    """
    content = await request.body()
    secret = app.state.webhook_secret
    if secret is not None and not signed(request.headers, content, secret):
        raise WrongSignature("Invalid signature")
    return content


class WrongSignature(Exception):
    """A secret is set, and no sender has signed the content with it."""


# What is answered


def accepted(hand_over: str, **answer: str) -> dict[str, str]:
    """Count a request that was accepted, and return its answer."""
    metrics.accepted.labels(hand_over).inc()
    return answer or {"status": "Accepted"}


REFUSALS: dict[type[Exception], tuple[int, str]] = {
    WrongSignature: (401, "signature"),
    AnotherBody: (409, "another body"),
    TooMuchHeld: (503, "backlog"),
    QueueUnavailable: (503, "queue"),
    ClientDisconnect: (400, "disconnected"),  # in mid-body: it is no error of the service
}


async def refuse(request: Request, error: Exception) -> Response:
    """Count a request that was refused, and say why; after a 503 it may be sent again."""
    status, reason = REFUSALS[type(error)]
    metrics.refused.labels(reason).inc()
    return JSONResponse(
        {"detail": str(error)}, status, {"Retry-After": "5"} if status == 503 else None
    )


for refusal in REFUSALS:
    app.add_exception_handler(refusal, refuse)


@app.exception_handler(413)
async def refuse_body(request: Request, error: HTTPException) -> Response:
    """Count a body over the limit."""
    metrics.refused.labels("size").inc()
    return await http_exception_handler(request, error)


@app.exception_handler(RequestValidationError)
async def refuse_address(request: Request, error: RequestValidationError) -> Response:
    """Count an address to which no mail goes."""
    metrics.refused.labels("address").inc()
    return await request_validation_exception_handler(request, error)
