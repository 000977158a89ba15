"""What the service counts and shows at `/metrics`, for each of its processes."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest

from .deliveries import STATES, Standing

registry = CollectorRegistry()
ProcessCollector(registry=registry)

accepted = Counter(
    "webhook_accepted", "Requests that were accepted", ["hand_over"], registry=registry
)
refused = Counter("webhook_refused", "Requests that were refused", ["reason"], registry=registry)

waiting = Gauge(
    "webhook_work_waiting", "Accepted work that has not begun", ["work"], registry=registry
)
unfinished = Gauge(
    "webhook_work_unfinished", "Accepted work that is not done", ["work"], registry=registry
)
unfinished_bytes = Gauge(
    "webhook_work_unfinished_bytes", "The bodies of that work", ["work"], registry=registry
)
oldest = Gauge(
    "webhook_work_oldest_seconds",
    "Since the oldest work that has not begun was accepted",
    ["work"],
    registry=registry,
)

_deliveries = Gauge(
    "webhook_deliveries", "Deliveries in the queue's database", ["state"], registry=registry
)
_oldest_delivery = Gauge(
    "webhook_deliveries_oldest_seconds",
    "Since the oldest delivery that waits in the database was accepted",
    registry=registry,
)
_failed = Gauge(
    "webhook_deliveries_failed_attempts",
    "Attempts at these deliveries that have come to nothing",
    registry=registry,
)


def shown(standing: Standing | None) -> bytes:
    """Return all figures as Prometheus reads them.

    standing: of the queue's deliveries; None when it is not known, which Prometheus calls NaN.
    """
    states: Mapping[str, float] = standing.states if standing else {}
    for state in STATES:
        _deliveries.labels(state).set(states.get(state, 0) if standing else float("nan"))
    _oldest_delivery.set(standing.oldest if standing else float("nan"))
    _failed.set(standing.failed if standing else float("nan"))
    return generate_latest(registry)
