"""Sends a notification by e-mail, with a deadline, and from threads that webhooks do not need."""

from __future__ import annotations

import smtplib
import socket
import time
from email.message import EmailMessage
from typing import Any

import anyio.to_thread
from anyio import CapacityLimiter
from anyio.lowlevel import RunVar

from .settings import settings

SENT_WITHIN = 10.0
MOST_AT_ONCE = 10

_turns: RunVar[CapacityLimiter] = RunVar("mails")


async def send_in_turn(email: str) -> None:
    """Send a notification from a thread that is for mail alone, when one of these is free."""
    turns = _turns.get(None)
    if turns is None:
        turns = CapacityLimiter(MOST_AT_ONCE)
        _turns.set(turns)
    await anyio.to_thread.run_sync(send_email, email, limiter=turns)


def send_email(email: str) -> None:
    """Send a notification over SMTP, within `SENT_WITHIN` seconds.

    email: the recipient's address. Raises OSError or smtplib.SMTPException when sending fails.
    """
    message = EmailMessage()
    message["From"] = "notifications@example.com"
    message["To"] = email
    message["Subject"] = "Notification"
    message.set_content("Your request has been received.")
    # Read for each mail: a mail server may have started after the service.
    host, port = settings().SMTP_HOST, settings().SMTP_PORT
    # Without a name of our own, smtplib asks the DNS for one, which can take seconds.
    with _Hurried(host, port, "localhost", timeout=SENT_WITHIN) as smtp:
        smtp.send_message(message, to_addrs=[email])


class _Hurried(smtplib.SMTP):
    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        end = time.monotonic() + timeout
        connected = socket.create_connection((host, port), timeout)
        return _Line(connected, end)


class _Line(socket.socket):
    """A connection with one deadline for all that is read and written on it.

    A time-out is for each call, and a server that sends a byte now and then has it begin anew.
    """

    def __init__(self, connected: socket.socket, end: float) -> None:
        super().__init__(connected.family, connected.type, connected.proto, connected.detach())
        self._end = end

    def recv_into(self, *given: Any) -> int:
        self._hurry()
        return super().recv_into(*given)

    def sendall(self, *given: Any) -> None:
        self._hurry()
        super().sendall(*given)

    def _hurry(self) -> None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the mail server is too slow")
        self.settimeout(left)
