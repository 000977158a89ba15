"""The look of figures: colours by meaning, text that fits, SVG with a text for screen readers."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Callable, Iterable
from functools import wraps
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any, ParamSpec

from IPython.display import display
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ..traces import Floor, Trace, Traces

WAITING = "#D55E00"
WORK = "#0072B2"
REFERENCE = "#777777"
INK = "#222222"

STYLE = Path(__file__).with_name("lab.mplstyle")
POINTS = 72
MANY_MARKS = 2_000

Draws = ParamSpec("Draws")
File = str | Path | None


class Noted(Figure):
    """A figure with the noise floor that is written into it."""

    floor: Floor | None = None


class Drawing:
    """A figure with its content as a sentence, for readers who cannot see it.

    alt: that sentence.
    """

    def __init__(self, figure: Noted, alt: str) -> None:
        self.figure = figure
        self.alt = alt

    @property
    def svg(self) -> str:
        """The figure as SVG; the same traces give the same bytes."""
        file = io.StringIO()
        with style.context(STYLE):
            self.figure.savefig(
                file, format="svg", metadata={"Date": None, "Creator": None, "Title": self.alt}
            )
        # The prolog would be an error inside a page.
        root = file.getvalue().partition("<svg ")[2]
        return f'<svg role="img" aria-label="{escape(self.alt)}" {root}'

    def save(self, path: str | Path) -> None:
        """Write the figure to a file; its suffix, .svg or .png, names the format.

        Raises ValueError for any other.
        """
        path = Path(path)
        if path.suffix == ".svg":
            path.write_text(self.svg, encoding="utf-8", newline="\n")
        elif path.suffix == ".png":
            with style.context(STYLE):
                self.figure.savefig(path, metadata={"Software": None})
        else:
            raise ValueError(f"{path}: a figure is written to a file that ends in .svg or .png")

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, str], dict[str, Any]]:
        # JupyterLab and nbconvert both turn image/svg+xml into an <img> that has no alt text.
        svg = self.svg
        source = f"data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}"
        image = f'<img alt="{escape(self.alt)}" src="{source}" style="max-width: 100%">'
        data = {"text/html": image, "image/svg+xml": svg, "text/plain": self.alt}
        floor = self.figure.floor
        return data, {"noise_floor": floor._asdict()} if floor else {}


def hand_out(drawing: Drawing, file: File) -> None:
    """Show a drawing below the cell; outside a notebook, print its sentence.

    file: where to write it instead. Raises ValueError unless that ends in .svg or .png.
    """
    if file is None:
        display(drawing)  # type: ignore[no-untyped-call]
    else:
        drawing.save(file)


def styled(draw: Callable[Draws, Drawing]) -> Callable[Draws, Drawing]:
    """Make a function draw in the lab's style, and keep the reader's own settings."""

    @wraps(draw)
    def drawn(*args: Draws.args, **kwargs: Draws.kwargs) -> Drawing:
        with style.context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def canvas(
    width: float, height: float, left: float, right: float, bottom: float, top: float
) -> tuple[Noted, Axes]:
    """Return a figure with one plot.

    width, height: in inches. left, right, bottom, top: margins, in points.
    """
    figure = Noted(figsize=(width, height))
    across, up = width * POINTS, height * POINTS
    return figure, figure.add_axes(
        (left / across, bottom / up, 1 - (left + right) / across, 1 - (bottom + top) / up)
    )


def few_ticks(axis: Axis, whole: bool = False) -> None:
    """Set at most six ticks, written as plain numbers.

    whole: whether to set ticks at whole numbers only, for an axis that counts.
    """
    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], integer=whole))
    axis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:g}"))


def text_width(text: str, size: float) -> float:
    """Return the width of a text in points.

    size: of its font, in points.
    """
    font = FontProperties(family="DejaVu Sans", size=size)
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0])


def fitted(text: str, size: float, room: float) -> str:
    """Return the text, shortened in its middle if it is wider than `room` points."""
    kept = len(text)
    short = text
    while text_width(short, size) > room and kept > 2:
        kept -= 1
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return short


def label(axes: Axes, text: str, at: tuple[float, float], dx: float, dy: float, **look: Any) -> Any:
    """Write a text `dx` and `dy` points away from a place in the data."""
    plain: dict[str, Any] = {"fontsize": 8, "va": "center_baseline", "annotation_clip": False}
    return axes.annotate(text, at, (dx, dy), textcoords="offset points", **plain | look)


def note(figure: Noted, *parts: str | Floor | None) -> None:
    """Write small grey text into the lower right corner, and keep the noise floor."""
    figure.floor = next((part for part in parts if isinstance(part, Floor)), None)
    words = (
        f"noise floor {part.p50 * 1000:.1f} ms" if isinstance(part, Floor) else part
        for part in parts
        if part
    )
    figure.text(
        1 - 6 / (figure.get_figwidth() * POINTS),
        5 / (figure.get_figheight() * POINTS),
        " · ".join(words), fontsize=7, color=REFERENCE, ha="right", va="bottom",
    )  # fmt: skip


def floor_of(traces: Iterable[Trace]) -> Floor | None:
    """Return the noise floor that the figure must state; None if none was measured."""
    return max((trace.floor for trace in traces if trace.floor is not None), default=None)


def spread(places: list[float], gap: float) -> list[float]:
    """Return the places, moved up just enough to be at least `gap` apart."""
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = list(places)
    for below, above in pairwise(order):
        moved[above] = max(moved[above], moved[below] + gap)
    return moved


def some(traces: Trace | Iterable[Trace]) -> Traces:
    """Return one request or many as `Traces`. Raises ValueError when there is none."""
    requests = Traces([traces] if isinstance(traces, Trace) else traces)
    if not requests:
        raise ValueError("no traces to draw: send at least one request")
    return requests
