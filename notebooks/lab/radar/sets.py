"""What the radar compares: versions of FastAPI on one server, and servers with one FastAPI."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

UVICORN = "{bin}/uvicorn {app} --port {port} --no-access-log"
GUNICORN = "{bin}/gunicorn {app} -k %s -b 127.0.0.1:{port}"
LATEST_FASTAPI = "0.165.0"
LATEST = ("fastapi==0.165.0", "starlette==1.10.0", "python-multipart==0.0.34", "uvicorn==0.54.0")


class ServerSet(NamedTuple):
    """A server with the newest FastAPI: its packages, and how it is started.

    command: with {bin} for the programs' folder, {app} and {port}. grace: what makes it wait for
    one second at most when it is stopped. watchdog: what has it end a worker that is silent for a
    second; "" where it has no such thing.
    """

    packages: tuple[str, ...]
    command: str
    grace: str
    watchdog: str = ""

    def started(self, programs: Path, *options: str) -> str:
        """Return the command, with the folder of the programs filled in, and these options."""
        return " ".join([self.command.replace("{bin}", str(programs)), *filter(None, options)])


GUNICORNS = {"grace": "--graceful-timeout 1", "watchdog": "--timeout 1"}
SERVERS = {
    "uvicorn": ServerSet(LATEST, UVICORN, "--timeout-graceful-shutdown 1"),
    "uvicorn, 2 workers": ServerSet(
        LATEST, f"{UVICORN} --workers 2", "--timeout-graceful-shutdown 1"
    ),
    "gunicorn + uvicorn-worker": ServerSet(
        (*LATEST, "gunicorn==27.0.1", "uvicorn-worker==0.4.0"),
        GUNICORN % "uvicorn_worker.UvicornWorker",
        **GUNICORNS,
    ),
    "gunicorn -k asgi": ServerSet((*LATEST, "gunicorn==27.0.1"), GUNICORN % "asgi", **GUNICORNS),
    "hypercorn": ServerSet(
        (*LATEST, "hypercorn==0.18.0"),
        "{bin}/hypercorn {app} -b 127.0.0.1:{port}",
        "--graceful-timeout 1",
    ),
    "granian": ServerSet(
        (*LATEST, "granian==2.8.9"),
        "{bin}/granian --interface asgi {app} --port {port}",
        "--workers-kill-timeout 1",
    ),
}

# The newest FastAPI before and after each turning, by what its Starlette is.
_OLD = ("uvicorn==0.54.0", "python-multipart==0.0.9")
VERSIONS = {
    "0.68.2": ("fastapi==0.68.2", "starlette==0.14.2", *_OLD),
    "0.78.0": ("fastapi==0.78.0", "starlette==0.19.1", *_OLD),
    "0.88.0": ("fastapi==0.88.0", "starlette==0.22.0", *_OLD),
    "0.105.0": ("fastapi==0.105.0", "starlette==0.27.0", *_OLD),
    "0.115.0": ("fastapi==0.115.0", "starlette==0.38.6", *_OLD),
    "0.117.1": ("fastapi==0.117.1", "starlette==0.48.0", *_OLD),
    "0.118.0": ("fastapi==0.118.0", "starlette==0.48.0", *_OLD),
    LATEST_FASTAPI: LATEST,
}
# Looked at only when it is asked for: whether the newest release has turned anything.
NEWEST = {"newest": ("fastapi", "python-multipart", "uvicorn")}
NAMED = ("fastapi", "starlette", "uvicorn", "uvicorn-worker", "gunicorn", "hypercorn", "granian")
