"""Draws traces: when the answer left, and when the work behind it ran.

Every function waits until the work is over, shows one figure and returns nothing; with `file=`, a
path that ends in .svg or .png, it writes the figure there instead. Its twin `draw_...` returns the
drawing instead, and draws unfinished work up to now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..traces import Trace, Traces
from .counts import draw_backlog as draw_backlog
from .counts import draw_steps as draw_steps
from .growths import draw_growth as draw_growth
from .heartbeats import draw_heartbeat as draw_heartbeat
from .knees import draw_knee as draw_knee
from .look import File, hand_out, some
from .scatters import draw_scatter as draw_scatter
from .sequences import draw_sequence as draw_sequence
from .swimlanes import draw_lanes as draw_lanes
from .timelines import draw_timeline as draw_timeline


def timeline(traces: Trace | Iterable[Trace], *, file: File = None) -> None:
    """Show when the caller was answered and when each task ran, a row for each.

    traces: one request or many, on one time axis (seconds after the first sending).
    Raises ValueError when there is no request, TimeoutError when the work does not end.
    """
    hand_out(draw_timeline(settled(traces)), file)


def scatter(
    traces: Trace | Iterable[Trace] | None = None,
    /,
    *,
    file: File = None,
    **groups: Iterable[Trace],
) -> None:
    """Show for each request when it was answered against when its work was finished.

    groups: requests to compare, each labelled with its keyword; the first group is drawn in
    colour. Raises ValueError when there is no request, TimeoutError when the work does not end.
    """
    given = None if traces is None else settled(traces)
    hand_out(draw_scatter(given, **{name: settled(group) for name, group in groups.items()}), file)


def sequence(trace: Trace, *, file: File = None) -> None:
    """Show the calls behind one request, in order, each with its measured moment.

    Raises TimeoutError when the work does not end.
    """
    hand_out(draw_sequence(trace.wait()), file)


def growth(
    traces: Mapping[float, Trace | Iterable[Trace]], x: str = "tasks", *, file: File = None
) -> None:
    """Show how `answered` and `finished` grow with a number.

    traces: the requests made for each number. x: the axis label, which says what is counted.
    Raises ValueError when there is no request, TimeoutError when the work does not end.
    """
    hand_out(draw_growth({number: settled(group) for number, group in traces.items()}, x), file)


def lanes(traces: Trace | Iterable[Trace], *, file: File = None) -> None:
    """Show what happened to each task as its server ended, a lane for each request.

    Raises ValueError when there is no task, TimeoutError when the work does not end.
    """
    hand_out(draw_lanes(settled(traces)), file)


def heartbeat(*, file: File = None, **strips: Iterable[Trace]) -> None:
    """Show how long another caller waited while work went on, a row for each run.

    strips: the beats of each run, labelled with its keyword. Raises ValueError when a run has no
    beat.
    """
    hand_out(draw_heartbeat({name: settled(beats) for name, beats in strips.items()}), file)


def steps(*, file: File = None, **groups: Iterable[Trace]) -> None:
    """Show the number of finished tasks over time; the first group is drawn in colour.

    groups: requests to compare, each labelled with its keyword. Raises ValueError when no task of
    a group has finished.
    """
    hand_out(draw_steps({name: settled(group) for name, group in groups.items()}), file)


def knee(runs: Mapping[float, Iterable[Trace]], *, file: File = None) -> None:
    """Show the answer time and the wait before the work (p50, p99) against the load.

    runs: the requests made at each load, in percent of capacity. Raises ValueError when there is
    no load, or one without a task.
    """
    hand_out(draw_knee({load: settled(group) for load, group in runs.items()}), file)


def backlog(
    readings: Sequence[tuple[float, float]] = (),
    /,
    *,
    file: File = None,
    **groups: Iterable[Trace],
) -> None:
    """Show the number of accepted, unfinished tasks over time; the last group in colour.

    readings: what the service itself says of the last group, as dots: seconds after the first
    sending, and the number. groups: requests, each labelled with its keyword. Raises ValueError
    when a group has no finished task.
    """
    settled_groups = {name: settled(group) for name, group in groups.items()}
    hand_out(draw_backlog(settled_groups, readings), file)


def settled(traces: Trace | Iterable[Trace]) -> Traces:
    """Return the requests, once all their work is over."""
    return some(traces).wait()
