"""The effects of deliveries: each happens once, however often a worker gets the delivery.

The mark that a delivery is done and its effect stand in one SQLite file and are written in one
transaction: there is no moment at which only one of them exists.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

BUSY_TIMEOUT = 30.0

# All that is known of a delivery is in one row, so a start and an effect each write one page.
SCHEMA = """
CREATE TABLE IF NOT EXISTS deliveries (
    delivery TEXT PRIMARY KEY, starts INTEGER NOT NULL, attempts INTEGER NOT NULL,
    worker TEXT NOT NULL, done REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tally (event TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS aside (
    delivery TEXT PRIMARY KEY, reason TEXT NOT NULL, headers TEXT NOT NULL, body TEXT NOT NULL,
    at REAL NOT NULL);
"""
BEGIN = """
INSERT INTO deliveries VALUES (?, 1, 1, ?, NULL)
ON CONFLICT DO UPDATE SET
    starts = starts + 1, attempts = attempts + 1, worker = excluded.worker
RETURNING attempts, done
"""
MARK = """
INSERT INTO deliveries VALUES (?, 0, 0, ?, ?)
ON CONFLICT DO UPDATE SET done = excluded.done WHERE done IS NULL
"""
COUNT = "INSERT INTO tally VALUES (?, 1) ON CONFLICT DO UPDATE SET number = number + 1"


class Start(NamedTuple):
    """One start of a delivery in a worker: which attempt it is, and whether it is done already."""

    attempt: int
    done: bool


class Aside(NamedTuple):
    """A delivery that is given to no worker any more, until somebody replays it."""

    delivery: str
    reason: str
    headers: dict[str, str]
    body: str
    at: float


class Effects:
    """The effects of deliveries, and how often each was started: a SQLite file.

    path: the file; created if it is missing. All workers of one host may share it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._db: sqlite3.Connection | None = None
        self._pid = 0
        self._lock = threading.Lock()

    def begin(self, delivery: str, worker: str) -> Start:
        """Record that a worker starts on a delivery; return which attempt it is.

        delivery: its id. worker: the worker's name.
        """
        ((attempt, done),) = self._rows(BEGIN, delivery, worker)
        return Start(attempt if done is None else 0, done is not None)

    def apply(self, delivery: str, event: str, worker: str) -> bool:
        """Apply a delivery's effect, one more `event` in the tally, unless it was applied before.

        Returns whether it was applied now.
        """
        with self._transaction() as db:
            if db.execute(MARK, (delivery, worker, time.time())).rowcount == 0:
                return False
            db.execute(COUNT, (event,))
        return True

    def set_aside(self, delivery: str, reason: str, headers: dict[str, str], body: str) -> None:
        """Store a delivery that no worker is to be given again.

        reason: why. headers: as the request had them. body: JSON.
        """
        row = (delivery, reason, json.dumps(headers), body, time.time())
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO aside VALUES (?, ?, ?, ?, ?)", row)

    def readmit(self, delivery: str) -> Aside:
        """Reset the attempts of a delivery that was set aside, and return it.

        Call `forget` once it is in the queue again. Raises KeyError when it is not set aside.
        """
        matching = [aside for aside in self.aside if aside.delivery == delivery]
        if not matching:
            raise KeyError(f"delivery {delivery!r} is not set aside")
        with self._transaction() as db:
            db.execute("UPDATE deliveries SET attempts = 0 WHERE delivery = ?", (delivery,))
        return matching[0]

    def forget(self, aside: Aside) -> None:
        """Remove a delivery from those set aside, unless it has been set aside anew."""
        with self._transaction() as db:
            db.execute(
                "DELETE FROM aside WHERE delivery = ? AND at = ?", (aside.delivery, aside.at)
            )

    @property
    def tally(self) -> dict[str, int]:
        """The number of effects by event."""
        return dict(self._rows("SELECT event, number FROM tally ORDER BY event"))

    @property
    def aside(self) -> list[Aside]:
        """The deliveries that were set aside, the oldest first."""
        rows = self._rows("SELECT delivery, reason, headers, body, at FROM aside ORDER BY at")
        return [
            Aside(delivery, reason, json.loads(headers), body, at)
            for delivery, reason, headers, body, at in rows
        ]

    @property
    def starts(self) -> dict[str, int]:
        """The number of starts by delivery."""
        return dict(self._rows("SELECT delivery, starts FROM deliveries"))

    @property
    def workers(self) -> dict[str, str]:
        """The worker that started last on each delivery."""
        return dict(self._rows("SELECT delivery, worker FROM deliveries WHERE starts > 0"))

    @property
    def done(self) -> set[str]:
        """The deliveries whose effect has been applied."""
        rows = self._rows("SELECT delivery FROM deliveries WHERE done IS NOT NULL")
        return {delivery for (delivery,) in rows}

    def frame(self) -> pd.DataFrame:
        """Return one row per delivery: its starts, its effects, and whether it is set aside."""
        import pandas as pd

        done, aside = self.done, {aside.delivery for aside in self.aside}
        rows = [
            (delivery, number, int(delivery in done), delivery in aside)
            for delivery, number in self.starts.items()
        ]
        return pd.DataFrame(rows, columns=["delivery", "starts", "effects", "set aside"])

    def _rows(self, query: str, *values: str) -> list[Any]:
        with self._lock:
            return self._connected().execute(query, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            db = self._connected()
            # Reading before writing would fail, not wait, when another worker writes in between.
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def _connected(self) -> sqlite3.Connection:
        if self._db is None or self._pid != os.getpid():  # a fork needs its own
            db = sqlite3.connect(
                self.path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
            )
            weakref.finalize(self, db.close)
            # Safe when a process dies at any moment, and waits for the disk only now and then.
            _turn_to_wal(db)
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA wal_autocheckpoint = 8000")
            db.executescript(SCHEMA)
            self._db, self._pid = db, os.getpid()
        return self._db


def _turn_to_wal(db: sqlite3.Connection) -> None:
    """Switch the file to a write-ahead log; retry while another process is doing the same."""
    end = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # of any of its kinds
            if not busy or time.monotonic() > end:
                raise
            time.sleep(0.01)
