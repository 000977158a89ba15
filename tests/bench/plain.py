"""What the service's queue is measured against: the same commit, by the driver alone."""

import hashlib
import json
import os
import sqlite3
import threading
import time
import uuid
from typing import Any

import psycopg
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool

app = FastAPI(max_body_size=2**20)
_local = threading.local()


def connect(url: str) -> Any:
    if url.startswith("sqlite"):
        path = url.removeprefix("sqlite:///")
        connection = sqlite3.connect(path, timeout=5, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


INSERTS = (
    "INSERT INTO deliveries (key, id, event, headers, digest, accepted, due, starts, attempts) "
    "VALUES ({0}, {0}, {0}, {0}, {0}, {0}, {0}, 0, 0)",
    "INSERT INTO bodies (delivery, content) VALUES ({0}, {0})",
)


def have_effect(key: str, event: str) -> None:
    """Insert an effect, in a transaction that is on the disk when it is over."""
    if not hasattr(_local, "connection"):
        _local.connection = connect(os.environ["DATABASE_URL"])
    mark = "?" if isinstance(_local.connection, sqlite3.Connection) else "%s"
    insert = f"INSERT INTO effects (delivery, event, at) VALUES ({mark}, {mark}, {mark})"
    _local.connection.execute(insert, (key, event, time.time()))


def commit(id: str, event: str, headers: str, content: bytes) -> None:
    """Insert a delivery and its body, in a transaction that is on the disk when it is over."""
    if not hasattr(_local, "connection"):
        _local.connection = connect(os.environ["DATABASE_URL"])
    key, now = hashlib.sha256(id.encode()).hexdigest(), time.time()
    rows = (
        (key, id, event, headers, hashlib.sha256(content).hexdigest(), now, now),
        (key, content),
    )
    sqlite = isinstance(_local.connection, sqlite3.Connection)
    _local.connection.execute("BEGIN IMMEDIATE" if sqlite else "BEGIN")
    for insert, row in zip(INSERTS, rows, strict=True):
        _local.connection.execute(insert.format("?" if sqlite else "%s"), row)
    _local.connection.execute("COMMIT")


@app.post("/webhook-test/queue", status_code=202)
async def plain(request: Request) -> dict[str, str]:
    content = await request.body()
    json.loads(content)
    headers = dict(request.headers)
    id = headers.get("x-github-delivery") or str(uuid.uuid4())
    await run_in_threadpool(
        commit, id, headers.get("x-github-event", ""), json.dumps(headers), content
    )
    return {"status": "Accepted"}
