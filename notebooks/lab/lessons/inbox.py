"""A mail server for the notebooks: it accepts every message and delivers none."""

from __future__ import annotations

import os
import weakref
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller

from ..traces.tables import table


class Inbox:
    """A mail server on a free port of 127.0.0.1 that keeps the received mails in `messages`.

    It sets SMTP_HOST and SMTP_PORT to its address. It ends when its name is bound to a new inbox
    or deleted.
    """

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        controller = _OnFreePort(
            _Keeper(self.messages), hostname="127.0.0.1", port=0, server_hostname="localhost"
        )
        controller.start()
        self.port: int = controller.port
        os.environ["SMTP_HOST"] = controller.hostname
        os.environ["SMTP_PORT"] = str(self.port)
        self._finalizer = weakref.finalize(self, _stop, controller)

    def stop(self) -> None:
        """Accept no more mail; the received messages stay."""
        self._finalizer()

    def _repr_html_(self) -> str:
        heads = ["from", "to", "subject"]
        rows = [[str(message[head] or "") for head in heads] for message in self.messages]
        return table(f"{len(rows)} messages", heads, rows)


class _OnFreePort(Controller):
    def _trigger_server(self) -> None:
        # The first moment at which the port that the system chose is known.
        listening: Any = self.server
        self.port = listening.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]


class _Keeper:
    def __init__(self, messages: list[EmailMessage]) -> None:
        self.messages = messages

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.messages.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"


def _stop(controller: _OnFreePort) -> None:
    controller.stop()
    if os.environ.get("SMTP_PORT") == str(controller.port):  # a newer inbox has set its own
        del os.environ["SMTP_HOST"], os.environ["SMTP_PORT"]
