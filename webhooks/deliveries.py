"""What is known of each delivery, from its acceptance to its effect.

A delivery is `waiting` until a worker leases it, `working` while the lease lasts, and in the end
`done`; after `MOST_ATTEMPTS` that came to nothing it is `aside`, until somebody sends it again.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Sequence
from enum import Enum
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import Insert, insert  # SQLite understands its ON CONFLICT, too

from .database import Database, bodies, deliveries, effects, now, workers

MOST_ATTEMPTS = 3
FORGET_AT_ONCE = 200
HEARD_WITHIN = 15.0

c = deliveries.c


class Delivery(NamedTuple):
    """A webhook that was sent to us.

    key: sha256 of its id. id: the caller's, or one of ours. event: its kind. headers: by
    lower-case name, without secrets. body: the bytes that came.
    """

    key: str
    id: str
    event: str
    headers: dict[str, str]
    body: bytes

    @classmethod
    def of(cls, headers: dict[str, str], body: bytes) -> Delivery:
        """Return the delivery that these headers and this body make."""
        id = headers.get("x-github-delivery") or str(uuid.uuid4())
        event = headers.get("x-github-event", "unnamed")
        return cls(key_of(id), id, event, headers, body)


class Answer(Enum):
    """What becomes of a delivery that was handed in."""

    ACCEPTED = "it will be worked on"
    KNOWN = "it was accepted before"
    ANOTHER = "its id belongs to a delivery with another body"


class Lease(NamedTuple):
    """A worker's turn at a delivery: `attempt` comes after those that have come to nothing."""

    delivery: Delivery
    worker: str
    token: str
    attempt: int
    reason: str | None


class Known(NamedTuple):
    """What is known of a delivery; moments are seconds since 1970 by the database's clock.

    state: waiting, working, aside or done. due: when a worker may take it. worker: the last that
    took it. starts: how often one took it, attempts: how many of these came to nothing, reason: of
    the last. effects: 0 or 1.
    """

    id: str
    event: str
    state: str
    accepted: float
    due: float | None
    worker: str | None
    starts: int
    attempts: int
    reason: str | None
    done: float | None
    effects: int


STATES = ("waiting", "working", "aside", "done")


class Standing(NamedTuple):
    """How the deliveries stand: how many are in each state.

    oldest: how long ago that of the waiting ones was accepted that has waited for longest, in
    seconds. failed: how many attempts at all of them have come to nothing. workers: how many
    processes that work were heard of within `HEARD_WITHIN` seconds.
    """

    states: dict[str, int]
    oldest: float
    failed: int
    workers: int


def key_of(id: str) -> str:
    """Return the key of a delivery: ids of any length stay distinct, and an index can hold it."""
    return hashlib.sha256(id.encode(errors="surrogatepass")).hexdigest()


def digest_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def row_of(delivery: Delivery) -> dict[str, Any]:
    """Return a delivery as its row; text of a database knows no NUL."""
    return {
        "key": delivery.key,
        "id": delivery.id.replace("\0", "\ufffd"),
        "event": delivery.event.replace("\0", "\ufffd"),
        "headers": delivery.headers,
        "digest": digest_of(delivery.body),
    }


_given = sa.bindparam
_at_hand = c.lease == _given("token")

ACCEPT = (
    insert(deliveries)
    .values(accepted=now(), due=now())
    .on_conflict_do_nothing()
    .execution_options(preserve_rowcount=True)
)
KEEP_BODY = sa.insert(bodies)
BEGIN_ANEW = (
    sa.update(deliveries)
    .where(c.key == _given("its_key"), c.aside.is_not(None))
    .values(due=now(), aside=None, reason=None, attempts=0)
)
# A lease that is still there has run out: whoever had it was not heard of again.
TAKE = (
    sa.update(deliveries)
    .values(
        due=now() + _given("seconds", type_=sa.Double),
        attempts=c.attempts + sa.case((c.lease.is_not(None), 1), else_=0),
        reason=sa.case(
            (c.lease.is_not(None), c.worker + " was not heard of again"),
            else_=c.reason,
        ),
        lease=_given("token"),
        worker=_given("by"),
        starts=c.starts + 1,
    )
    .returning(
        c.key, c.id, c.event, c.headers, c.attempts, c.reason,
        sa.select(bodies.c.content).where(bodies.c.delivery == c.key).scalar_subquery(),
    )
)  # fmt: skip
TAKE_IT = TAKE.where(c.key == _given("its_key"), c.due <= now())
_late = sa.bindparam("late", 0, type_=sa.Double)
NEXT_DUE = sa.select(c.key).where(c.due <= now() - _late).order_by(c.due).limit(1)
TAKE_NEXT = TAKE.where(c.key == NEXT_DUE.with_for_update(skip_locked=True).scalar_subquery())
PROLONG = (
    sa.update(deliveries)
    .where(c.key == _given("its_key"), _at_hand)
    .values(due=now() + _given("seconds", type_=sa.Double))
)
FINISH = (
    sa.update(deliveries)
    .where(c.key == _given("its_key"), c.done.is_(None))
    .values(done=now(), due=None, lease=None, aside=None, reason=None)
)
_effect = sa.select(c.key, c.event, now())


def _insert_effect(of: sa.Select[Any]) -> Insert:
    return insert(effects).from_select(["delivery", "event", "at"], of).on_conflict_do_nothing()


HAVE_EFFECT = _insert_effect(_effect.where(c.key == _given("its_key")))
DROP_BODY = sa.delete(bodies).where(bodies.c.delivery == _given("its_key"))
# The same three in one, which is one journey to a server in place of five.
_finished = FINISH.returning(c.key).cte("finished")
FINISH_AT_ONCE = sa.select(_finished.c.key).add_cte(
    _insert_effect(_effect.join(_finished, _finished.c.key == c.key))
    .returning(effects.c.delivery)
    .cte("effect"),
    sa.delete(bodies)
    .where(bodies.c.delivery.in_(sa.select(_finished.c.key)))
    .returning(bodies.c.delivery)
    .cte("dropped"),
)
FAIL = (
    sa.update(deliveries)
    .where(c.key == _given("its_key"), _at_hand)
    .values(
        due=now() + _given("seconds", type_=sa.Double),
        attempts=c.attempts + 1,
        reason=_given("why"),
        lease=None,
    )
)
SET_ASIDE = (
    sa.update(deliveries)
    .where(c.key == _given("its_key"), _at_hand)
    .values(due=None, aside=now(), attempts=_given("tried"), reason=_given("why"), lease=None)
)
LOOK_UP = sa.select(c.digest, c.aside).where(c.key == _given("its_key"))
FORGET = sa.delete(deliveries).where(
    c.key.in_(
        sa.select(c.key)
        .where(c.done < now() - _given("seconds", type_=sa.Double))
        .order_by(c.done)
        .limit(FORGET_AT_ONCE)
    )
)
_state = sa.case(
    (c.done.is_not(None), "done"),
    (c.aside.is_not(None), "aside"),
    (sa.and_(c.lease.is_not(None), c.due > now()), "working"),
    else_="waiting",
).label("state")
_effects = (
    sa.select(sa.func.count()).where(effects.c.delivery == c.key).scalar_subquery().label("effects")
)
_derived: dict[str, Any] = {"state": _state, "effects": _effects}
KNOWN = sa.select(*(_derived[name] if name in _derived else c[name] for name in Known._fields))
STANDING = sa.select(
    _state,
    sa.func.count(),
    sa.func.sum(c.attempts),
    now() - sa.func.min(c.accepted),
).group_by(_state)
HEARD = insert(workers).values(worker=_given("name"), heard=now())
HEARD = HEARD.on_conflict_do_update(index_elements=["worker"], set_={"heard": now()})
_silent = now() - workers.c.heard > HEARD_WITHIN
FORGET_WORKERS = sa.delete(workers).where(_silent)
WORKERS = sa.select(sa.func.count()).select_from(workers).where(sa.not_(_silent))
WHOLE = sa.select(c.headers, bodies.c.content).outerjoin(bodies, bodies.c.delivery == c.key)
DISCARD = sa.delete(deliveries).where(c.key == _given("its_key"), c.aside.is_not(None))


class Deliveries:
    """The deliveries in a database; while that is away, each method raises a DBAPIError."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def accept(
        self, arrived: Sequence[Delivery], connection: sa.Connection | None = None
    ) -> list[Answer]:
        """Remember deliveries in one transaction; return what becomes of each.

        connection: one of `promises` that the caller keeps; None for any of them.
        """
        if connection is None:
            with self.database.promises.connect() as connection:
                return self.accept(arrived, connection)
        with connection.begin() as transaction:
            if self._insert(connection, arrived):
                return [Answer.ACCEPTED] * len(arrived)
            transaction.rollback()  # some are not new: see which
        with connection.begin():
            answers = {
                place: self._accept(connection, arrived[place])
                for place in sorted(range(len(arrived)), key=lambda place: arrived[place].key)
            }
        return [answers[place] for place in range(len(arrived))]

    def _insert(self, connection: sa.Connection, arrived: Sequence[Delivery]) -> bool:
        """Insert deliveries and their bodies; return False when not all of them are new."""
        # In one order everywhere, or two processes would wait for each other's keys.
        together = sorted(arrived, key=lambda delivery: delivery.key)
        rows = [row_of(delivery) for delivery in together]
        contents = [{"delivery": each.key, "content": each.body} for each in together]
        alone = len(together) == 1  # which is the usual case, and drivers do it faster than a list
        if connection.execute(ACCEPT, rows[0] if alone else rows).rowcount < len(together):
            return False
        connection.execute(KEEP_BODY, contents[0] if alone else contents)
        return True

    def _accept(self, connection: sa.Connection, delivery: Delivery) -> Answer:
        if self._insert(connection, [delivery]):
            return Answer.ACCEPTED
        digest, aside = connection.execute(LOOK_UP, {"its_key": delivery.key}).one()
        if digest != digest_of(delivery.body):
            return Answer.ANOTHER
        if aside is None:
            return Answer.KNOWN
        connection.execute(BEGIN_ANEW, {"its_key": delivery.key})
        return Answer.ACCEPTED

    def take(self, worker: str, seconds: float, key: str | None = None) -> Lease | None:
        """Lease a delivery to a worker.

        worker: its name. seconds: how long the lease lasts. key: of the delivery; None for the one
        that has been due for longest. Returns None when there is none that may be taken.
        """
        token = secrets.token_hex(8)
        given = {"by": worker, "seconds": seconds, "token": token}
        with self.database.leases.connect() as connection:
            if key is None:
                row = connection.execute(TAKE_NEXT, given).first()
            else:
                row = connection.execute(TAKE_IT, {**given, "its_key": key}).first()
        if row is None:
            return None
        key, id, event, headers, attempts, reason, body = row
        return Lease(Delivery(key, id, event, headers, body), worker, token, attempts + 1, reason)

    def prolong(self, lease: Lease, seconds: float) -> bool:
        """Have a lease last longer; return False when another has the delivery, or it is over."""
        return self._hint(PROLONG, its_key=lease.delivery.key, token=lease.token, seconds=seconds)

    def finish(self, delivery: Delivery) -> bool:
        """Give a delivery its effect; return False when it has had it before."""
        given = {"its_key": delivery.key}
        if self.database.promises.dialect.name == "postgresql":
            with self.database.alone.connect() as connection:
                return connection.scalars(FINISH_AT_ONCE, given).first() is not None
        with self.database.promises.begin() as connection:
            if connection.execute(FINISH, given).rowcount == 0:
                return False
            connection.execute(HAVE_EFFECT, given)
            connection.execute(DROP_BODY, given)
        return True

    def fail(self, lease: Lease, why: str, pause: float) -> bool:
        """Return a delivery whose attempt has failed, for another one after a pause in seconds.

        Returns False when another worker has it by now, or it is over.
        """
        return self._promise(
            FAIL, its_key=lease.delivery.key, token=lease.token, why=why, seconds=pause
        )

    def set_aside(self, lease: Lease, why: str) -> bool:
        """Give a delivery to no worker any more, until it is sent again or replayed."""
        tried = min(lease.attempt, MOST_ATTEMPTS)
        return self._promise(
            SET_ASIDE, its_key=lease.delivery.key, token=lease.token, why=why, tried=tried
        )

    def next_due(self, late: float = 0) -> str | None:
        """Return the key of the delivery that has been due for longest; None if there is none.

        late: for how long at least, in seconds.
        """
        with self.database.leases.connect() as connection:
            return connection.scalars(NEXT_DUE, {"late": late}).first()

    def forget(self, seconds: float) -> None:
        """Remove some of the deliveries that were done longer ago than this; their effects stay."""
        with self.database.leases.connect() as connection:
            connection.execute(FORGET, {"seconds": seconds})

    def standing(self) -> Standing:
        """Return how the deliveries stand."""
        with self.database.leases.connect() as connection:
            rows = connection.execute(STANDING).all()
            heard = connection.scalars(WORKERS).one()
        return Standing(
            states={state: count for state, count, _, _ in rows},
            oldest=next((age for state, _, _, age in rows if state == "waiting"), 0.0),
            failed=sum(attempts for _, _, attempts, _ in rows),
            workers=heard,
        )

    def heard(self, worker: str) -> None:
        """Note that a process is there to work; forget those that were not heard of again."""
        with self.database.leases.connect() as connection:
            connection.execute(HEARD, {"name": worker})
            connection.execute(FORGET_WORKERS)

    def known(self, state: str | None = None, id: str | None = None) -> list[Known]:
        """Return what is known of the deliveries in a state, or of one, in the order they came."""
        wanted = KNOWN.order_by(c.accepted)
        if state is not None:
            wanted = wanted.where(_state == state)
        if id is not None:
            wanted = wanted.where(c.key == key_of(id))
        with self.database.leases.connect() as connection:
            return [Known._make(row) for row in connection.execute(wanted)]

    def has(self, key: str) -> bool:
        """Return whether there is a delivery with this key."""
        with self.database.leases.connect() as connection:
            return connection.execute(sa.select(c.key).where(c.key == key)).first() is not None

    def content(self, id: str) -> tuple[dict[str, str], bytes | None] | None:
        """Return a delivery's headers, and its body while it is kept; None if it is not there."""
        with self.database.leases.connect() as connection:
            row = connection.execute(WHOLE.where(c.key == key_of(id))).first()
            return None if row is None else (row[0], row[1])

    def replay(self, id: str) -> bool:
        """Have a delivery that lies aside begin anew; return False when it does not lie aside."""
        return self._promise(BEGIN_ANEW, its_key=key_of(id))

    def discard(self, id: str) -> bool:
        """Remove a delivery that lies aside; return False when it does not lie aside."""
        given = {"its_key": key_of(id)}
        with self.database.promises.begin() as connection:
            if connection.execute(DISCARD, given).rowcount == 0:
                return False
            connection.execute(DROP_BODY, given)
        return True

    def tally(self) -> dict[str, int]:
        """Return the number of effects by event."""
        counted = sa.select(effects.c.event, sa.func.count()).group_by(effects.c.event)
        with self.database.leases.connect() as connection:
            return dict(connection.execute(counted).all())

    def _promise(self, statement: sa.Update, **given: Any) -> bool:
        with self.database.promises.begin() as connection:
            return connection.execute(statement, given).rowcount == 1

    def _hint(self, statement: sa.Update, **given: Any) -> bool:
        with self.database.leases.connect() as connection:
            return connection.execute(statement, given).rowcount == 1
