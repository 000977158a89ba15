"""What the process of a watched server runs: `python -m lab.servers.process_main`."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from types import FrameType
from typing import BinaryIO

from ..observer.hooks import hooked
from ..observer.transport import Reporter
from ..programs.lifeline import end_group, lifeline
from .travelling import unpack
from .watched_uvicorn import WatchedServer, why_not

STOP = b"stop\n"


class SignalledServer(WatchedServer):
    """A server that reports each signal it has taken."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.reporter.control("taken")


def hold(line: BinaryIO, server: WatchedServer) -> None:
    """Take orders; when the line breaks, end at once with all that this process has started."""
    for order in line:
        if order == STOP:
            server.should_exit = True
    try:
        end_group(os.getpid())
    finally:
        os._exit(1)


def main() -> None:
    line = lifeline()
    order = pickle.load(line)
    sys.path[:] = order["path"]
    report: Reporter = order["reporter"]
    try:
        app = unpack(order)
        server = SignalledServer(
            app,
            report.note,
            report,
            order["settings"],
            lambda url: report.control("up", url),
            order["watch_loop"],
        )
    except Exception as error:
        report.control("failed", why_not(error))
        sys.exit(1)
    threading.Thread(target=hold, args=(line, server), name="lab lifeline", daemon=True).start()
    try:
        with hooked():
            server.run()
    except KeyboardInterrupt:
        pass  # as the uvicorn command does: SIGINT is no error
    except SystemExit as error:
        report.control("failed", server.why_not(error))
        raise


if __name__ == "__main__":
    main()
