"""The operator's commands: `python -m webhooks waiting | aside | show ID | replay ID | discard ID`.

The settings of the service say which database is meant.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.exc import DBAPIError

from .database import Database, WrongDatabase
from .deliveries import Deliveries, Known
from .queue import PATIENCE
from .settings import WrongSetting, settings
from .work import shortened


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return its exit code, 0 on success."""
    given = parser().parse_args(arguments)
    try:
        with closing(Database(settings().DATABASE_URL, PATIENCE)) as database:
            database.prepare()
            return int(given.run(Deliveries(database), given))
    except WrongSetting as error:
        print(error, file=sys.stderr)
    except (WrongDatabase, DBAPIError) as error:
        why = getattr(error, "orig", None) or error
        print(f"{database.name}: {str(why).strip()}", file=sys.stderr)
    return 1


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog="python -m webhooks", description=__doc__)
    commands = whole.add_subparsers(dest="command", required=True, metavar="command")
    for name, run, says in (
        ("waiting", waiting, "list the deliveries that are not done yet"),
        ("aside", aside, "list those that no worker is given any more, and why"),
        ("show", show, "show a delivery, with its headers and, while it is kept, its body"),
        ("replay", replay, "have a delivery that lies aside begin anew"),
        ("discard", discard, "remove a delivery that lies aside"),
    ):
        command = commands.add_parser(name, help=says, description=says)
        command.set_defaults(run=run)
        command.add_argument("--json", action="store_true", help="an object per line, for programs")
        if name == "replay":
            which = command.add_mutually_exclusive_group(required=True)
            which.add_argument("id", nargs="?", help="the delivery's")
            which.add_argument("--all", action="store_true", help="all that lie aside")
        elif name in ("show", "discard"):
            command.add_argument("id", help="the delivery's")
    return whole


def waiting(deliveries: Deliveries, given: argparse.Namespace) -> int:
    listed = [*deliveries.known("waiting"), *deliveries.known("working")]
    tell(listed, ("id", "event", "state", "accepted", "starts", "reason"), given.json)
    return 0


def aside(deliveries: Deliveries, given: argparse.Namespace) -> int:
    columns = ("id", "event", "accepted", "attempts", "reason")
    tell(deliveries.known("aside"), columns, given.json)
    return 0


def show(deliveries: Deliveries, given: argparse.Namespace) -> int:
    found = deliveries.known(id=given.id)
    content = deliveries.content(given.id)
    if not found or content is None:
        return refuse(f"there is no delivery {given.id!r}")
    headers, body = content
    whole: dict[str, Any] = found[0]._asdict() | {"headers": headers}
    whole["body"] = None if body is None else body.decode(errors="backslashreplace")
    if given.json:
        print(json.dumps(whole))
    else:
        for name, value in whole.items():
            print(f"{name:<10}{shown(name, value)}")
    return 0


def replay(deliveries: Deliveries, given: argparse.Namespace) -> int:
    ids = [each.id for each in deliveries.known("aside")] if given.all else [given.id]
    return settle(ids, deliveries.replay, "replayed", given)


def discard(deliveries: Deliveries, given: argparse.Namespace) -> int:
    return settle([given.id], deliveries.discard, "discarded", given)


def settle(ids: list[str], settled: Any, done: str, given: argparse.Namespace) -> int:
    for id in ids:
        if not settled(id):
            return refuse(f"delivery {id!r} does not lie aside")
        print(json.dumps({"id": id, "state": done}) if given.json else f"{done} {shortened(id)}")
    return 0


def refuse(why: str) -> int:
    print(why, file=sys.stderr)
    return 1


def tell(listed: Iterable[Known], columns: tuple[str, ...], as_json: bool) -> None:
    """Print deliveries, an object per line, or as a table of these columns."""
    if as_json:
        for each in listed:
            print(json.dumps(each._asdict()))
        return
    rows = [[shown(name, getattr(each, name)) for name in columns] for each in listed]
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in [columns, *rows]:
        print(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def shown(name: str, value: Any) -> str:
    """Return a value as people read it, on one line."""
    if value is None:
        return "-"
    if name in ("accepted", "due", "done"):
        return datetime.fromtimestamp(value, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return shortened(value)


if __name__ == "__main__":
    sys.exit(main())
