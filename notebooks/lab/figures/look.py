"""How figures look and how they are shown: colours by meaning, text that fits, SVG that speaks."""

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


class Noted(Figure):
    """A figure that knows the noise floor which is written into it."""

    floor: Floor | None = None


class Drawing:
    """A figure with the sentence that tells its content to those who cannot see it."""

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
        """Write the figure to a file, as .svg or .png by its name."""
        path = Path(path)
        if path.suffix == ".svg":
            path.write_text(self.svg, encoding="utf-8", newline="\n")
        else:
            with style.context(STYLE):
                self.figure.savefig(path, metadata={"Software": None})

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


def show(drawing: Drawing) -> None:
    """Show a drawing below the cell; outside a notebook its sentence is printed."""
    display(drawing)  # type: ignore[no-untyped-call]


def styled(draw: Callable[Draws, Drawing]) -> Callable[Draws, Drawing]:
    """Draw in the house look, and leave the reader's own settings alone."""

    @wraps(draw)
    def drawn(*args: Draws.args, **kwargs: Draws.kwargs) -> Drawing:
        with style.context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def canvas(
    width: float, height: float, left: float, right: float, bottom: float, top: float
) -> tuple[Noted, Axes]:
    """A figure with one plot in it; the size in inches, the margins in points."""
    figure = Noted(figsize=(width, height))
    across, up = width * POINTS, height * POINTS
    return figure, figure.add_axes(
        (left / across, bottom / up, 1 - (left + right) / across, 1 - (bottom + top) / up)
    )


def few_ticks(axis: Axis, whole: bool = False) -> None:
    """At most six ticks, written as plain numbers; only whole ones when they count things."""
    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], integer=whole))
    axis.set_major_formatter(FuncFormatter(lambda at, _: f"{at:g}"))


def text_width(text: str, size: float) -> float:
    """How wide a text is drawn, in points."""
    font = FontProperties(family="DejaVu Sans", size=size)
    return float(text_to_path.get_text_width_height_descent(text, font, False)[0])


def fitted(text: str, size: float, room: float) -> str:
    """The text, shortened in its middle when it is wider than `room` points."""
    kept = len(text)
    short = text
    while text_width(short, size) > room and kept > 2:
        kept -= 1
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return short


def label(axes: Axes, text: str, at: tuple[float, float], dx: float, dy: float, **look: Any) -> Any:
    """Write at a place in the data, `dx` and `dy` points away from it."""
    plain: dict[str, Any] = {"fontsize": 8, "va": "center_baseline", "annotation_clip": False}
    return axes.annotate(text, at, (dx, dy), textcoords="offset points", **plain | look)


def note(figure: Noted, *parts: str | Floor | None) -> None:
    """Small grey text in the lower right corner."""
    figure.floor = next((part for part in parts if isinstance(part, Floor)), None)
    told = (
        f"noise floor {part.p50 * 1000:.1f} ms" if isinstance(part, Floor) else part
        for part in parts
        if part
    )
    figure.text(
        1 - 6 / (figure.get_figwidth() * POINTS),
        5 / (figure.get_figheight() * POINTS),
        " · ".join(told), fontsize=7, color=REFERENCE, ha="right", va="bottom",
    )  # fmt: skip


def floor_of(traces: Iterable[Trace]) -> Floor | None:
    """The noise floor that the figure must state; None when none was measured."""
    return max((trace.floor for trace in traces if trace.floor is not None), default=None)


def in_seconds(span: float) -> str:
    """A time span as it is written into a figure."""
    return "<0.001 s" if 0 < span < 0.0005 else f"{span:.3f} s"


def spread(places: list[float], gap: float) -> list[float]:
    """The places, moved up just enough to lie at least `gap` apart."""
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = list(places)
    for below, above in pairwise(order):
        moved[above] = max(moved[above], moved[below] + gap)
    return moved


def some(traces: Trace | Iterable[Trace]) -> Traces:
    """One request or many, as many. Raises ValueError when there is none."""
    found = Traces([traces] if isinstance(traces, Trace) else traces)
    if not found:
        raise ValueError("no traces to draw: send at least one request")
    return found
