"""Runs the radar's probes in each environment, some environments side by side."""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Lock

from ..servers.web import Web, serve
from ..traces import Traces
from .claims import LONG, OF_SERVERS, OF_VERSIONS
from .environments import NotInstalled, at_hand, programs, versions
from .outcomes import Cell, Column, Radar
from .sets import NAMED, NEWEST, SERVERS, UVICORN, VERSIONS, ServerSet

APP = "radar_app:app"
FOLDER = Path(__file__).with_name("app")
REPEATED = 10

Say = Callable[[str], None]


def radar(
    only: Sequence[str] = (),
    jobs: int = 2,
    say: Say = print,
    of_versions: Mapping[str, Sequence[str]] = VERSIONS,
    of_servers: Mapping[str, ServerSet] = SERVERS,
) -> Radar:
    """Run the radar.

    only: names of sets, also "newest", the FastAPI of today; none for all that are pinned. jobs:
    how many sets at a time. say: is told each step. of_versions: FastAPIs, packages by name.
    of_servers: servers with the newest one.
    Raises ValueError for a name that there is no set of.
    """
    if "newest" in only:
        of_versions = {**of_versions, **NEWEST}
    names = [*of_versions, *of_servers]
    for name in only:
        if name not in names:
            raise ValueError(f"no set {name!r}; there are {', '.join(names)}")
    tell = Told(say, total=len(only or names))
    wanted = {
        **{name: partial(version, packages) for name, packages in of_versions.items()},
        **{name: partial(server, given) for name, given in of_servers.items()},
    }
    chosen = {name: find for name, find in wanted.items() if not only or name in only}
    with ThreadPoolExecutor(jobs, thread_name_prefix="lab radar") as pool:
        found = dict(
            zip(chosen, pool.map(lambda name: tell.of(name, chosen[name]), chosen), strict=True)
        )
    return Radar(
        datetime.now(UTC).date().isoformat(),
        f"{platform.system()}, {os.cpu_count()} cores",
        {name: column for name, column in found.items() if name in of_versions},
        {name: column for name, column in found.items() if name in of_servers},
    )


class Told:
    """Tells of each set as it is over: how many are, of how many."""

    def __init__(self, say: Say, total: int) -> None:
        self._say, self._total, self._over = say, total, 0
        self._turn = Lock()

    def of(self, name: str, find: Callable[[], Column]) -> Column:
        column = find()
        with self._turn:
            self._over += 1
            self._say(f"{self._over}/{self._total} {name}: {column.trouble or 'done'}")
        return column


def version(packages: Sequence[str]) -> Column:
    """Find what one version of FastAPI does, on uvicorn."""
    try:
        found = programs(packages)
    except NotInstalled as error:
        return Column(trouble=str(error))
    with serve(APP, command=UVICORN.replace("{bin}", str(found)), cwd=FOLDER) as web:
        cells = {claim: repeated(partial(of.probe, web)) for claim, of in OF_VERSIONS.items()}
    return Column(versions(found, NAMED), cells)


def server(given: ServerSet) -> Column:
    """Find what one server does with the work of the newest FastAPI."""
    try:
        found = programs(given.packages)
    except NotInstalled as error:
        return Column(trouble=str(error))
    column = Column(versions(found, NAMED))
    for claim, of in OF_SERVERS.items():
        column.cells[claim] = repeated(lambda of=of: probed(of.probe, given, found))  # type: ignore[misc]
    return column


def probed(probe: Callable[[Callable[..., Web]], str], given: ServerSet, found: Path) -> str:
    """Run a probe of a server, and end the servers that it has started."""
    started: list[Web] = []

    def start(*options: str) -> Web:
        command = given.started(found, *(getattr(given, option) for option in options))
        started.append(serve(APP, command=command, cwd=FOLDER))
        return started[-1]

    try:
        return probe(start)
    finally:
        for web in started:
            web.kill()


def repeated(probe: Callable[[], str]) -> Cell:
    return Cell.of([probe() for _ in range(REPEATED)])


# For a lesson: one server, once


def started(name: str) -> Web:
    """Serve the radar's app on a server.

    name: a key of `SERVERS`. Raises NotInstalled when the server cannot be had here.
    """
    given = SERVERS[name]
    return serve(APP, command=given.started(at_hand(given.packages)), cwd=FOLDER)


def stopped(name: str, seconds: float = LONG) -> Traces:
    """Return the requests of a server that is told to end (SIGTERM) while their work goes on.

    name: a key of `SERVERS`. seconds: how long tasks take; a plain thread takes twice as long.
    Raises NotInstalled when the server cannot be had here.
    """
    with started(name) as web:
        for path, times in {"/two": 1, "/sleep": 1, "/thread": 2}.items():
            web.post(path, params={"seconds": times * seconds})
        web.traces.wait_started()
        web.signal(signal.SIGTERM)
        web.join()
        return web.traces.wait()


def tried(web: Web) -> dict[str, str]:
    """Return the outcome of each claim about versions, tried once."""
    return {claim: of.probe(web) for claim, of in OF_VERSIONS.items()}
