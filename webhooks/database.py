"""The database that remembers deliveries: its tables, and how SQLite or PostgreSQL is reached."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from .work import logger

VERSION = 2
"""Of the tables. Raise it with each change to them."""

_MAKING_TABLES = 7_204_061_511

metadata = sa.MetaData()

version = sa.Table("version", metadata, sa.Column("number", sa.Integer, nullable=False))

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),  # sha256 of the id, which has no limit
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("headers", sa.JSON, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),  # of the body, which goes when it is done
    sa.Column("accepted", sa.Double, nullable=False),
    sa.Column("due", sa.Double),  # when a worker may take it next; NULL: done, or aside
    sa.Column("lease", sa.String(32)),  # of the worker that has it, or was not heard of again
    sa.Column("worker", sa.Text),  # the last that took it
    sa.Column("starts", sa.Integer, nullable=False, default=0),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),  # that have come to nothing
    sa.Column("reason", sa.Text),  # of the last of them
    sa.Column("aside", sa.Double),
    sa.Column("done", sa.Double),
    sqlite_with_rowid=False,
    implicit_returning=False,
)
_waiting = deliveries.c.due.is_not(None)
sa.Index("deliveries_due", deliveries.c.due, sqlite_where=_waiting, postgresql_where=_waiting)
_done = deliveries.c.done.is_not(None)
sa.Index("deliveries_done", deliveries.c.done, sqlite_where=_done, postgresql_where=_done)

# Apart: in the row that each lease writes anew, a large body would be written with it.
bodies = sa.Table(
    "bodies",
    metadata,
    sa.Column("delivery", sa.String(64), primary_key=True),
    sa.Column("content", sa.LargeBinary, nullable=False),
    implicit_returning=False,
)

# A row for each, not a counter: all workers would wait for its one row.
effects = sa.Table(
    "effects",
    metadata,
    sa.Column("delivery", sa.String(64), primary_key=True),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sqlite_with_rowid=False,
)


# When each process that works was last heard of.
workers = sa.Table(
    "workers",
    metadata,
    sa.Column("worker", sa.String(200), primary_key=True),
    sa.Column("heard", sa.Double, nullable=False),
    sqlite_with_rowid=False,
    implicit_returning=False,
)


class now(FunctionElement[float]):
    """The database's own clock, in seconds since 1970, whatever the hosts' clocks say."""

    type = sa.Double()
    inherit_cache = True


@compiles(now, "sqlite")
def _now_in_sqlite(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _now_in_postgresql(*_: Any, **__: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS float8)"


class WrongDatabase(Exception):
    """The database has tables of another version of the service."""


class Database:
    """A database, reached from one process: make it after a fork.

    url: SQLAlchemy's, of a SQLite file or a PostgreSQL server. patience: how long to wait for
    another's lock, in seconds.
    """

    def __init__(self, url: str, patience: float) -> None:
        self.promises = _engine(url, patience, durable=True)
        """For what was promised: transactions, on the disk once they are committed."""
        self.alone = self.promises.execution_options(isolation_level="AUTOCOMMIT")
        """For what was promised in a single statement."""
        self.leases = _engine(url, patience, durable=False)
        """For leases, which a power cut may take, and for reading: each statement by itself."""
        self._prepared = False

    @property
    def name(self) -> str:
        """Where it is, for people: without the password."""
        return self.promises.url.render_as_string(hide_password=True)

    def prepare(self) -> None:
        """Make the tables if they are not there; look only once.

        Raises WrongDatabase when they are of another version.
        """
        if self._prepared:
            return
        with self.promises.begin() as connection:
            if self.promises.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MAKING_TABLES)))
                if connection.exec_driver_sql("SHOW fsync").scalar_one() == "off":
                    logger.warning(f"{self.name} has fsync=off: a power cut may take deliveries")
            if not sa.inspect(connection).has_table(version.name):
                metadata.create_all(connection)
                connection.execute(sa.insert(version).values(number=VERSION))
            elif (found := connection.execute(sa.select(version.c.number)).scalar_one()) != VERSION:
                raise WrongDatabase(
                    f"{self.name} has tables of version {found}, this service those of version "
                    f"{VERSION}: let that service finish its deliveries, then set DATABASE_URL to "
                    f"a new database, or install the service that fits this one"
                )
        self._prepared = True

    def close(self) -> None:
        """Close all its connections."""
        self.promises.dispose()
        self.leases.dispose()


def _engine(url: str, patience: float, durable: bool) -> sa.Engine:
    options: dict[str, Any] = {} if durable else {"isolation_level": "AUTOCOMMIT"}
    options["max_overflow"] = -1  # a connection for each thread that works
    if (given := sa.make_url(url)).get_backend_name() == "sqlite":
        Path(given.database or "").parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(url, connect_args={"timeout": patience}, **options)
        sa.event.listen(engine, "connect", functools.partial(_set_up_sqlite, patience, durable))
        if durable:
            sa.event.listen(engine, "begin", _begin_in_sqlite)
        return engine
    settings = {
        "synchronous_commit": "on" if durable else "off",
        "lock_timeout": f"{patience * 1000:.0f}",
        "idle_in_transaction_session_timeout": "10000",
    }
    connect = {
        "connect_timeout": 3,
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        # How soon a link that is cut is noticed.
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }
    return sa.create_engine(url, connect_args=connect, **options)


def _set_up_sqlite(patience: float, durable: bool, connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # the driver begins nothing of itself
    _turn_to_wal(connection, patience)
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")


def _begin_in_sqlite(connection: sa.Connection) -> None:
    file = connection.engine.url.database
    if not os.path.exists(file or ""):  # an open file that was removed takes everything, for nobody
        raise sa.exc.OperationalError("BEGIN", None, FileNotFoundError(file))
    # Reading before writing would fail, not wait, when another process writes in between.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _turn_to_wal(connection: sqlite3.Connection, patience: float) -> None:
    """Switch the file to a write-ahead log; retry while another process is doing the same."""
    end = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY  # of any of its kinds
            if not busy or time.monotonic() > end:
                raise
            time.sleep(0.01)


def cut(connection: Any) -> None:
    """Break a driver's connection while another thread waits on it: that thread gets an error.

    A frozen server keeps no time-out of its own. SQLite has no server, and keeps its own.
    """
    # It may be ending by itself just now; a connection to SQLite has no socket.
    with contextlib.suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
