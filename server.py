"""A webhook service that answers first and works later, and its neighbours for comparison.

Run it with `uvicorn server:app`. What stands behind the endpoints is in `webhooks/`; what the
environment may set, in `webhooks/settings.py`.
"""

import hashlib
import hmac
import threading
from typing import Annotated, Any

from fastapi import BackgroundTasks, FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from webhooks.intake import QueueUnavailable
from webhooks.mail import send_email
from webhooks.queue import AnotherBody, accept, queue_ready
from webhooks.settings import settings
from webhooks.work import logger, parsed, process_and_log_webhook, redacted

app = FastAPI(
    title="Webhook service", max_body_size=settings().MAX_BODY_BYTES, lifespan=queue_ready
)
app.state.work_seconds = settings().WORK_SECONDS
app.state.webhook_secret = settings().WEBHOOK_SECRET


# Webhooks: one piece of work, handed over in four ways


@app.post("/webhook-test", status_code=202)
async def webhook_test(request: Request, background_tasks: BackgroundTasks) -> dict[str, str]:
    """Answer at once; the work runs after the answer has left."""
    logger.info("Webhook test endpoint called. Acknowledging request immediately.")
    headers = dict(request.headers)
    body = await read_json(request)
    background_tasks.add_task(process_and_log_webhook, headers, body, app.state.work_seconds)
    return {"status": "Accepted"}


@app.post("/webhook-test/inline", status_code=202)
async def webhook_test_inline(request: Request) -> dict[str, str]:
    """Work first, then answer: this caller waits, others do not."""
    logger.info("Webhook test endpoint called. Processing before the answer.")
    headers = dict(request.headers)
    body = await read_json(request)
    await run_in_threadpool(process_and_log_webhook, headers, body, app.state.work_seconds)
    return {"status": "Accepted"}


@app.post("/webhook-test/thread", status_code=202)
async def webhook_test_thread(request: Request) -> dict[str, str]:
    """Answer at once; the work runs in a thread of its own, started before the answer."""
    logger.info("Webhook test endpoint called. Starting a thread.")
    headers = dict(request.headers)
    body = await read_json(request)
    work = (headers, body, app.state.work_seconds)
    threading.Thread(target=process_and_log_webhook, args=work).start()
    return {"status": "Accepted"}


@app.post("/webhook-test/queue", status_code=202)
async def webhook_test_queue(request: Request) -> dict[str, str]:
    """Answer when a database has the delivery; the work runs in a worker process."""
    logger.info("Webhook test endpoint called. Handing over to the task queue.")
    # A database writes deliveries to its disk: they must hold no secret either.
    headers = redacted(dict(request.headers))
    content = await read_content(request)
    try:
        await accept(headers, content)
    except QueueUnavailable as error:
        raise HTTPException(503, str(error), {"Retry-After": "5"}) from error
    except AnotherBody as error:
        raise HTTPException(409, str(error)) from error
    return {"status": "Accepted"}


# E-mail: the same, both ways

# ASCII only, and no white space: no line break can start a header of its own.
Email = Annotated[
    str, Query(max_length=254, pattern=r"^[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$")
]


@app.post("/send-email")
async def send_notification(email: Email, background_tasks: BackgroundTasks) -> dict[str, str]:
    """Answer at once; the mail goes out after the answer has left."""
    background_tasks.add_task(send_email, email)
    return {"message": "Email sent"}


@app.post("/send-email/thread")
async def send_notification_thread(email: Email) -> dict[str, str]:
    """Answer at once; the mail goes out from a thread that FastAPI does not manage."""
    threading.Thread(target=send_email, args=(email,)).start()
    return {"message": "Email sent"}


@app.get("/ping")
async def ping() -> dict[str, str]:
    """Show that the service is there."""
    return {"message": "pong"}


# What a delivery must satisfy before it is accepted


async def read_json(request: Request) -> Any:
    """Return the body of a delivery, or `{"error": "Invalid JSON"}` if it is not JSON.

    Raises HTTPException: 413 for a body over the limit, 401 for a wrong signature.
    """
    return parsed(await read_content(request))


async def read_content(request: Request) -> bytes:
    """Return the body of a delivery as the bytes that came.

    Raises HTTPException: 413 for a body over the limit, 401 for a wrong signature.
    """
    content = await request.body()
    verify_signature(request.headers.get("x-hub-signature-256", ""), content)
    return content


def verify_signature(signature: str, content: bytes) -> None:
    """Check the signature of a delivery, if a secret is set.

    Raises HTTPException: 401 when the content was not signed with the secret.
    """
    if app.state.webhook_secret is None:
        return
    digest = hmac.new(app.state.webhook_secret.encode(), content, hashlib.sha256).hexdigest()
    # As bytes: compare_digest raises on a str that is not ASCII.
    if not hmac.compare_digest(f"sha256={digest}".encode(), signature.encode()):
        raise HTTPException(401, "Invalid signature")


@app.exception_handler(ClientDisconnect)
async def client_gone(request: Request, error: Exception) -> Response:
    """Answer 400 when the client disconnects in mid-body: it is no error of the service."""
    return Response(status_code=400)
