"""The work on a delivery, and what its log lines may show."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from .settings import settings

LONGEST_LOGGED = 1000
LOGGED_HEADERS = {"content-type", "user-agent", "x-github-delivery", "x-github-event"}

INVALID = {"error": "Invalid JSON"}

logger = logging.getLogger("uvicorn.webhook")
# A bare uvicorn gives handlers to its own loggers only, so this one is their child. A level of its
# own keeps its lines where uvicorn is told to be quiet.
logger.setLevel(logging.INFO)


def process_and_log_webhook(headers: dict[str, str], body: Any, seconds: float) -> None:
    """Do the work on a delivery and log it.

    headers: by lower-case name. body: any JSON value. seconds: duration of the work.
    """
    given = settings()
    logger.info("--- Background webhook processing started ---")
    work(seconds, given.WORK_KIND)
    github_event = headers.get("x-github-event")
    if github_event:
        logger.info(f"GitHub Event: {shortened(github_event)}")
    logger.info(f"Received headers: {shortened(redacted(headers))}")
    payload = shortened(body) if given.LOG_PAYLOADS else "[not logged]"
    logger.info(f"Received payload: {payload}")
    logger.info("--- Background webhook processing finished ---")


def parsed(headers: Mapping[str, str], content: bytes) -> Any:
    """Return the JSON value of a body, or `{"error": "Invalid JSON"}` if it is not JSON.

    headers: by lower-case name. By default GitHub sends a form, whose field `payload` is the JSON.
    """
    try:
        if headers.get("content-type", "").lower().startswith("application/x-www-form-urlencoded"):
            content = form_field(content, "payload")
        return json.loads(content)
    except (ValueError, RecursionError):  # syntax, encoding, too many digits; too deep
        return dict(INVALID)


def form_field(content: bytes, name: str) -> bytes:
    """Return the first field of this name in a form; the whole content if there is none."""
    fields = parse_qs(content, strict_parsing=False, max_num_fields=100)
    return fields.get(name.encode(), [content])[0]


def work(seconds: float, kind: str) -> None:
    """Wait, as for a database, or compute, for this many seconds; the kind is WORK_KIND's."""
    if kind == "wait":
        time.sleep(seconds)
    else:
        end = time.thread_time() + seconds
        while time.thread_time() < end:
            pass


def redacted(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers with every value hidden that may hold a secret."""
    return {
        name: value if name.lower() in LOGGED_HEADERS else "[redacted]"
        for name, value in headers.items()
    }


def shortened(value: Any) -> str:
    """Return a value as one line of at most about `LONGEST_LOGGED` characters."""
    try:
        text = value if isinstance(value, str) and value.isprintable() else repr(value)
    except RecursionError:  # this thread's stack may allow less than the parser's did
        return "[nested too deep to show]"
    return text if len(text) <= LONGEST_LOGGED else f"{text[:LONGEST_LOGGED]}... [{len(text)}]"


class Seldom:
    """A logger of what goes on and on, such as a database that is away: once a minute."""

    def __init__(self) -> None:
        self._quiet_until = 0.0

    def log(self, text: str) -> None:
        """Log a line, unless another was logged within the last minute."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + 60
            logger.error(text)
