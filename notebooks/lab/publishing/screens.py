"""Draws a terminal's window with what a command prints there."""

from __future__ import annotations

from ..figures.look import INK, POINTS, REFERENCE, WAITING, WORK, Drawing, canvas, styled
from ..figures.timelines import timeline_in_words
from ..terminal import inked
from ..terminal.timelines import lines_of
from ..terminal.window import summary
from ..traces import Traces

WIDTH = 80  # columns
COLUMN, ROW = 5.85, 13.0  # in points
SIZE = COLUMN / 0.602  # of the type, whose signs are all as wide
MARGIN = 18.0
COLOURS = {inked.WAITING: WAITING, inked.WORK: WORK, inked.REFERENCE: REFERENCE}


@styled
def draw_shown(traces: Traces, file: str) -> Drawing:
    """Draw the window in which `python -m lab show` has printed a file.

    traces: what it holds. file: its name, as it was typed.
    """
    lines = [[inked.Piece("$ ", inked.REFERENCE), inked.Piece(f"python -m lab show {file}")]]
    for trace in traces:
        lines += [*lines_of(trace, WIDTH), []]
    lines += [[inked.Piece(line)] for line in summary(traces).splitlines()]
    wide, high = WIDTH * COLUMN + 2 * MARGIN, len(lines) * ROW + 2 * MARGIN - 4
    figure, axes = canvas(wide / POINTS, high / POINTS, 0, 0, 0, 0)
    axes.set_xlim(0, wide)
    axes.set_ylim(high, 0)
    axes.set_axis_off()
    figure.patch.set(edgecolor=REFERENCE, linewidth=1.5)
    for row, line in enumerate(lines, 1):
        column = 0
        for piece, ink in line:
            # Piece by piece, so that each stands in its column, whatever the width of those before.
            axes.text(
                MARGIN + column * COLUMN, MARGIN + row * ROW - 5, piece.rstrip(),
                family="DejaVu Sans Mono", size=SIZE, color=COLOURS.get(ink, INK),
                weight="bold" if ink == inked.STRONG else "normal", va="baseline",
            )  # fmt: skip
            column += inked.columns(piece)
    return Drawing(figure, f"A terminal. {timeline_in_words(traces)}")
