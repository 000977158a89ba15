"""Mail: a deadline for the whole of it, and threads that webhooks do not need."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from signal import SIGKILL

import pytest

from lab import delivery
from lab.servers.web import Web
from webhooks import mail

from ..waiting import until


class Dripping:
    """A mail server that greets without end, a byte at a time."""

    def __init__(self, pause: float) -> None:
        self.over = threading.Event()
        self.pause = pause
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.callers: list[socket.socket] = []
        self.threads = [threading.Thread(target=self._accept), threading.Thread(target=self._drip)]
        for thread in self.threads:
            thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.callers.append(self.listener.accept()[0])

    def _drip(self) -> None:
        while not self.over.wait(self.pause):
            for each in list(self.callers):
                with contextlib.suppress(OSError):
                    each.send(b"2")

    def close(self) -> None:
        self.over.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join()
        for each in self.callers:
            each.close()


@pytest.fixture
def dripping(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dripping]:
    server = Dripping(pause=0.1)
    monkeypatch.setenv("SMTP_HOST", "127.0.0.1")
    monkeypatch.setenv("SMTP_PORT", str(server.port))
    yield server
    server.close()


def test_a_mail_server_that_drips_is_given_up(
    dripping: Dripping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "SENT_WITHIN", 0.5)
    sending = threading.Thread(target=_failing, args=(seen := list[Exception](),), daemon=True)
    sending.start()
    sending.join(10)
    [error] = seen
    assert isinstance(error, OSError)
    assert "timed out" in str(error) or "too slow" in str(error)


def _failing(seen: list[Exception]) -> None:
    try:
        mail.send_email("ada@example.com")
    except Exception as error:
        seen.append(error)


@pytest.mark.slow
def test_webhooks_are_worked_on_while_sixty_mails_hang(
    dripping: Dripping, serving: Callable[..., Web], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORK_SECONDS", "0")
    web = serving("server:app", on="process")
    mails = [web.post("/send-email", params={"email": "ada@example.com"}) for _ in range(60)]
    assert {each.status for each in mails} == {200}
    until(lambda: len(dripping.callers) == mail.MOST_AT_ONCE)
    hooks = web.burst("/webhook-test", [delivery("push")] * 40).wait(8)
    inline = web.post("/webhook-test/inline", **delivery("push"))
    assert {task.state for task in hooks.tasks} == {"finished"}
    assert inline.status == 202
    # So all that was before any of the mails was given up.
    assert len(dripping.callers) == mail.MOST_AT_ONCE
    web.signal(SIGKILL)  # asked to end, it would wait for the mails
    web.join()
