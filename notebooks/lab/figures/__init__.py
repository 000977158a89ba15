"""Draws traces: when the answer left, and when the work behind it ran.

Every function waits until the work is over, shows one figure and returns nothing. Its twin
`draw_...` returns the drawing instead, and draws unfinished work up to now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..traces import Trace, Traces
from .counts import draw_backlog as draw_backlog
from .counts import draw_steps as draw_steps
from .growths import draw_growth as draw_growth
from .heartbeats import draw_heartbeat as draw_heartbeat
from .knees import draw_knee as draw_knee
from .look import show, some
from .scatters import draw_scatter as draw_scatter
from .sequences import draw_sequence as draw_sequence
from .swimlanes import draw_lanes as draw_lanes
from .timelines import draw_timeline as draw_timeline


def timeline(traces: Trace | Iterable[Trace]) -> None:
    """Show when the caller was answered and when each task ran, a row for each.

    traces: one request or many, on one time axis (seconds after the first sending).
    Raises ValueError when there is no request, TimeoutError when the work does not end.
    """
    show(draw_timeline(settled(traces)))


def scatter(traces: Trace | Iterable[Trace] | None = None, /, **groups: Iterable[Trace]) -> None:
    """Show for each request when it was answered against when its work was finished.

    groups: requests to compare, each labelled with its keyword; the first group is drawn in
    colour. Raises ValueError when there is no request, TimeoutError when the work does not end.
    """
    given = None if traces is None else settled(traces)
    show(draw_scatter(given, **{name: settled(group) for name, group in groups.items()}))


def sequence(trace: Trace) -> None:
    """Show the calls behind one request, in order, each with its measured moment.

    Raises TimeoutError when the work does not end.
    """
    show(draw_sequence(trace.wait()))


def growth(traces: Mapping[float, Trace | Iterable[Trace]], x: str = "tasks") -> None:
    """Show how `answered` and `finished` grow with a number.

    traces: the requests made for each number. x: the axis label, which says what is counted.
    Raises ValueError when there is no request, TimeoutError when the work does not end.
    """
    show(draw_growth({number: settled(group) for number, group in traces.items()}, x))


def lanes(traces: Trace | Iterable[Trace]) -> None:
    """Show what happened to each task as its server ended, a lane for each request.

    Raises ValueError when there is no task, TimeoutError when the work does not end.
    """
    show(draw_lanes(settled(traces)))


def heartbeat(**strips: Iterable[Trace]) -> None:
    """Show how long another caller waited while work went on, a row for each run.

    strips: the beats of each run, labelled with its keyword. Raises ValueError when a run has no
    beat.
    """
    show(draw_heartbeat({name: settled(beats) for name, beats in strips.items()}))


def steps(**groups: Iterable[Trace]) -> None:
    """Show the number of finished tasks over time; the first group is drawn in colour.

    groups: requests to compare, each labelled with its keyword. Raises ValueError when no task of
    a group has finished.
    """
    show(draw_steps({name: settled(group) for name, group in groups.items()}))


def knee(runs: Mapping[float, Iterable[Trace]]) -> None:
    """Show the answer time and the wait before the work (p50, p99) against the load.

    runs: the requests made at each load, in percent of capacity. Raises ValueError when there is
    no load, or one without a task.
    """
    show(draw_knee({load: settled(group) for load, group in runs.items()}))


def backlog(readings: Sequence[tuple[float, float]] = (), /, **groups: Iterable[Trace]) -> None:
    """Show the number of accepted, unfinished tasks over time; the last group in colour.

    readings: what the service itself says of the last group, as dots: seconds after the first
    sending, and the number. groups: requests, each labelled with its keyword. Raises ValueError
    when a group has no finished task.
    """
    show(draw_backlog({name: settled(group) for name, group in groups.items()}, readings))


def settled(traces: Trace | Iterable[Trace]) -> Traces:
    """Return the requests, once all their work is over."""
    return some(traces).wait()
