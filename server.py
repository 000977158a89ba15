"""A webhook service that answers first and works later, and its neighbours for comparison.

Run it with `uvicorn server:app`; its settings (`Settings`, below) come from the environment.
"""

import hashlib
import hmac
import json
import logging
import os
import smtplib
import threading
import time
from email.message import EmailMessage
from typing import Annotated, Any, Literal

from fastapi import BackgroundTasks, FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from lab.celery_app import QueueUnavailable, enqueue

logger = logging.getLogger("uvicorn.webhook")
# A bare uvicorn gives handlers to its own loggers only, so this one is their child. A level of its
# own keeps its lines where uvicorn is told to be quiet.
logger.setLevel(logging.INFO)


class Settings(BaseModel):
    """What the environment may set, under these names."""

    WORK_SECONDS: float = Field(0.3, ge=0, le=3600)
    WORK_KIND: Literal["wait", "compute"] = "wait"
    MAX_BODY_BYTES: int = Field(1024 * 1024, ge=1)
    WEBHOOK_SECRET: str | None = Field(None, min_length=1)
    SMTP_HOST: str = Field("127.0.0.1", min_length=1)
    SMTP_PORT: int = Field(1025, ge=1, le=65535)

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read the settings. Raises pydantic.ValidationError, naming each variable amiss."""
        return cls.model_validate(dict(os.environ))


settings = Settings.from_environment()
app = FastAPI(title="Webhook service", max_body_size=settings.MAX_BODY_BYTES)
app.state.work_seconds = settings.WORK_SECONDS
app.state.webhook_secret = settings.WEBHOOK_SECRET


# Webhooks: one piece of work, handed over in four ways


def process_and_log_webhook(headers: dict[str, str], body: Any) -> None:
    """Process a delivery: log it, and work on it for `app.state.work_seconds`.

    headers: by lower-case name. body: any JSON value.
    """
    logger.info("--- Background webhook processing started ---")
    work(app.state.work_seconds)
    github_event = headers.get("x-github-event")
    if github_event:
        logger.info(f"GitHub Event: {shortened(github_event)}")
    logger.info(f"Received headers: {shortened(redacted(headers))}")
    logger.info(f"Received payload: {shortened(body)}")
    logger.info("--- Background webhook processing finished ---")


def work(seconds: float) -> None:
    """Take a time over something: wait, as for a database, or compute."""
    if settings.WORK_KIND == "wait":
        time.sleep(seconds)
    else:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass


@app.post("/webhook-test", status_code=202)
async def webhook_test(request: Request, background_tasks: BackgroundTasks) -> dict[str, str]:
    """Answer at once; the work runs after the answer has left."""
    logger.info("Webhook test endpoint called. Acknowledging request immediately.")
    headers = dict(request.headers)
    body = await read_json(request)
    background_tasks.add_task(process_and_log_webhook, headers, body)
    return {"status": "Accepted"}


@app.post("/webhook-test/inline", status_code=202)
async def webhook_test_inline(request: Request) -> dict[str, str]:
    """Work first, then answer: this caller waits, others do not."""
    logger.info("Webhook test endpoint called. Processing before the answer.")
    headers = dict(request.headers)
    body = await read_json(request)
    await run_in_threadpool(process_and_log_webhook, headers, body)
    return {"status": "Accepted"}


@app.post("/webhook-test/thread", status_code=202)
async def webhook_test_thread(request: Request) -> dict[str, str]:
    """Answer at once; the work runs in a thread of its own, started before the answer."""
    logger.info("Webhook test endpoint called. Starting a thread.")
    headers = dict(request.headers)
    body = await read_json(request)
    threading.Thread(target=process_and_log_webhook, args=(headers, body)).start()
    return {"status": "Accepted"}


@app.post("/webhook-test/queue", status_code=202)
async def webhook_test_queue(request: Request) -> dict[str, str]:
    """Answer when a broker has the delivery; the work runs in a worker, another process."""
    logger.info("Webhook test endpoint called. Handing over to the task queue.")
    # What a broker keeps on its disk is to hold no secret either.
    headers = redacted(dict(request.headers))
    body = await read_json(request)
    try:
        await enqueue(headers, body)
    except QueueUnavailable as error:
        raise HTTPException(503, str(error), {"Retry-After": "5"}) from error
    return {"status": "Accepted"}


# E-mail: the same, both ways

# ASCII only, and no white space: no line break can start a header of its own.
Email = Annotated[
    str, Query(max_length=254, pattern=r"^[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$")
]


def send_email(email: str) -> None:
    """Send a notification over SMTP.

    email: who receives it. Raises OSError or smtplib.SMTPException when it cannot be delivered.
    """
    message = EmailMessage()
    message["From"] = "notifications@example.com"
    message["To"] = email
    message["Subject"] = "Notification"
    message.set_content("Your request has been received.")
    # Read now: a mail server may have started after this module was imported.
    server = Settings.from_environment()
    # Without a name of our own, smtplib asks the DNS for one, which can take seconds.
    with smtplib.SMTP(server.SMTP_HOST, server.SMTP_PORT, "localhost", timeout=10) as smtp:
        smtp.send_message(message, to_addrs=[email])


@app.post("/send-email")
async def send_notification(email: Email, background_tasks: BackgroundTasks) -> dict[str, str]:
    """Answer at once; the mail goes out after the answer has left."""
    background_tasks.add_task(send_email, email)
    return {"message": "Email sent"}


@app.post("/send-email/thread")
async def send_notification_thread(email: Email) -> dict[str, str]:
    """Answer at once; the mail goes out from a thread that FastAPI knows nothing of."""
    threading.Thread(target=send_email, args=(email,)).start()
    return {"message": "Email sent"}


@app.get("/ping")
async def ping() -> dict[str, str]:
    """Show that the service is there."""
    return {"message": "pong"}


# What a delivery must satisfy before it is accepted


async def read_json(request: Request) -> Any:
    """The body of a delivery; `{"error": "Invalid JSON"}` stands in for one that is not JSON.

    Raises HTTPException: 413 for a body over the limit, 401 for a signature that does not hold.
    """
    content = await request.body()
    verify_signature(request.headers.get("x-hub-signature-256", ""), content)
    try:
        return json.loads(content)
    except (ValueError, RecursionError):  # syntax, encoding, too many digits; too deep
        return {"error": "Invalid JSON"}


def verify_signature(signature: str, content: bytes) -> None:
    """Refuse content that the holder of the secret has not signed, if there is a secret."""
    if app.state.webhook_secret is None:
        return
    digest = hmac.new(app.state.webhook_secret.encode(), content, hashlib.sha256).hexdigest()
    # As bytes: compare_digest raises on a str that is not ASCII.
    if not hmac.compare_digest(f"sha256={digest}".encode(), signature.encode()):
        raise HTTPException(401, "Invalid signature")


@app.exception_handler(ClientDisconnect)
async def client_gone(request: Request, error: Exception) -> Response:
    """Take a caller who hangs up in mid-body for what it is: no error of the service."""
    return Response(status_code=400)


# What a log line may show

LONGEST_LOGGED = 1000
LOGGED_HEADERS = {"content-type", "user-agent", "x-github-delivery", "x-github-event"}


def redacted(headers: dict[str, str]) -> dict[str, str]:
    """The headers, with only those values that are known to hold no secret."""
    return {
        name: value if name.lower() in LOGGED_HEADERS else "[redacted]"
        for name, value in headers.items()
    }


def shortened(value: Any) -> str:
    """A value on one line of at most about `LONGEST_LOGGED` characters."""
    try:
        text = value if isinstance(value, str) and value.isprintable() else repr(value)
    except RecursionError:  # this thread's stack may allow less than the parser's did
        return "[nested too deep to show]"
    return text if len(text) <= LONGEST_LOGGED else f"{text[:LONGEST_LOGGED]}... [{len(text)}]"
