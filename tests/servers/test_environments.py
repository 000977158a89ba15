"""The reader's app in its own environment, by its own server: watched, and as it is unwatched."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from lab.radar.environments import NotInstalled, programs
from lab.servers.addresses import free_port
from lab.servers.web import Web, serve

from ..pythons import pythons
from ..waiting import family, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"),
]

APPS = Path(__file__).parent / "apps"
UVICORN = "{bin}/uvicorn {app} --port {port}"
SERVERS = {
    "uvicorn": UVICORN,
    "uvicorn, two workers": f"{UVICORN} --workers 2",
    "uvicorn, reload": f"{UVICORN} --reload",
    "gunicorn, uvicorn-worker": (
        "{bin}/gunicorn {app} -k uvicorn_worker.UvicornWorker -b 127.0.0.1:{port}"
    ),
    "gunicorn, preload": (
        "{bin}/gunicorn {app} --preload -k uvicorn_worker.UvicornWorker -b 127.0.0.1:{port}"
    ),
    "gunicorn, asgi": "{bin}/gunicorn {app} -k asgi -b 127.0.0.1:{port}",
    "hypercorn": "{bin}/hypercorn {app} -b 127.0.0.1:{port}",
    "granian": "{bin}/granian --interface asgi {app} --port {port}",
}
WAITS = {"uvicorn", "uvicorn, two workers", "gunicorn, uvicorn-worker", "hypercorn"}


class Environment(NamedTuple):
    """An environment of an app: its CPython, and its packages."""

    version: str
    packages: list[str]


OF_SHOP = [
    "fastapi==0.104.1", "uvicorn==0.24.0", "sqlalchemy==2.0.23", "python-multipart==0.0.6",
]  # fmt: skip
OLD = {
    "FastAPI 0.104 on 3.11": Environment("3.11", OF_SHOP),
    "FastAPI 0.104 on 3.9": Environment("3.9", OF_SHOP),
}
OLDEST = Environment("3.9", ["fastapi==0.68.2", "uvicorn==0.20.0"])
TODAY = Environment(
    "{}.{}".format(*sys.version_info),
    [
        "fastapi==0.165.0", "uvicorn==0.54.0", "uvicorn-worker==0.4.0", "gunicorn==27.0.1",
        "hypercorn==0.18.0", "granian==2.8.9",
    ],
)  # fmt: skip


def programs_of(wanted: Environment) -> Path:
    """Return the folder of an environment's programs; skip the test where it cannot be made."""
    python = pythons((3, 9)).get(wanted.version)
    if python is None:
        pytest.skip(f"needs CPython {wanted.version}")
    try:
        return programs(wanted.packages, python)
    except NotInstalled as error:
        pytest.skip(f"needs a package index: {error}")


@pytest.fixture
def commanded() -> Iterator[Callable[[str, str], Web]]:
    before, started = family(), list[Web]()

    def start(app: str, command: str) -> Web:
        started.append(serve(app, command=command, cwd=APPS))
        return started[-1]

    yield start
    for web in started:
        web.kill()
    until(lambda: family() <= before)


def filled(command: str, programs: Path) -> str:
    return command.replace("{bin}", str(programs))


@pytest.mark.parametrize("server", SERVERS)
def test_every_server_of_today_is_watched(
    server: str,
    commanded: Callable[[str, str], Web],
) -> None:
    web = commanded("plain:app", filled(SERVERS[server], programs_of(TODAY)))
    trace = web.post("/orders").wait(10)
    assert [(task.name, task.state) for task in trace.tasks] == [
        ("bill", "finished"),
        ("ship", "finished"),
    ]
    assert trace.responded < trace.tasks[0].started  # type: ignore[operator]
    stopped = web.post("/orders")
    web.traces.wait_started()
    web.signal(signal.SIGTERM)
    web.join(30)
    states = [task.state for task in stopped.wait(5).tasks]
    if server in WAITS:
        assert states == ["finished", "finished"]
    assert set(states) <= {"finished", "cancelled", "lost", "never ran"}


def asked(url: str) -> list[tuple[int, dict[str, str], bytes]]:
    """What a client gets of the shop: status, headers less the date, and body of each answer."""

    def ask(method: str, path: str, **options: Any) -> httpx.Response:
        return httpx.request(method, f"{url}{path}", trust_env=False, **options)

    answers = [
        ask("POST", "/orders", params={"item": "pen"}),
        ask("POST", "/pictures", files={"file": ("a.png", b"12345")}),
        ask("GET", "/broken"),
        ask("GET", "/nowhere"),
        ask("POST", "/orders"),
        ask("POST", "/orders", params={"item": "ink"}),
    ]
    return [
        (each.status_code, {k: v for k, v in each.headers.items() if k != "date"}, each.content)
        for each in answers
    ]


def answers_unwatched(app: str, command: str) -> list[tuple[int, dict[str, str], bytes]]:
    port = free_port()
    words = shlex.split(command.replace("{app}", app).replace("{port}", str(port)))
    server = subprocess.Popen(words, cwd=APPS, stderr=subprocess.DEVNULL, env=os.environ)
    url = f"http://127.0.0.1:{port}"

    def up() -> bool:
        try:
            return httpx.get(f"{url}/nowhere", trust_env=False).status_code == 404
        except httpx.TransportError:
            return False

    try:
        until(up)
        return asked(url)
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.parametrize("name", OLD)
def test_a_shop_answers_as_it_does_unwatched_and_its_tasks_are_seen(
    name: str,
    commanded: Callable[[str, str], Web],
) -> None:
    command = filled(UVICORN, programs_of(OLD[name]))
    web = commanded("shop.main:app", command)
    assert asked(web.url) == answers_unwatched("shop.main:app", command)
    trace = web.post("/orders", params={"item": "pen"}).wait(10)
    assert [(task.name, task.state) for task in trace.tasks] == [
        ("bill", "finished"),
        ("ship", "finished"),
    ]
    # Its middleware holds back the message that ends the response until the tasks are done.
    assert trace.responded < trace.tasks[0].started  # type: ignore[operator]
    stopped = web.post("/orders", params={"item": "pen"})
    web.traces.wait_started()
    web.signal(signal.SIGTERM)
    web.join(20)
    assert [task.state for task in stopped.wait(5).tasks] == ["finished", "finished"]


def test_the_oldest_fastapi_is_watched(commanded: Callable[[str, str], Web]) -> None:
    web = commanded("plain:app", filled(UVICORN, programs_of(OLDEST)))
    trace = web.post("/orders").wait(10)
    assert [(task.name, task.state) for task in trace.tasks] == [
        ("bill", "finished"),
        ("ship", "finished"),
    ]
    assert trace.responded < trace.tasks[0].started  # type: ignore[operator]
