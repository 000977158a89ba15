"""Where the radar keeps what it has found, and the figures that are drawn from it."""

from __future__ import annotations

from pathlib import Path

from ..traces import Traces
from .drawn import draw_radar
from .outcomes import Radar

DATA = Path(__file__).parents[3] / "data"


def known(data: Path = DATA) -> Radar | None:
    """Return what was found last; None when nothing was. Raises ValueError for a broken file."""
    path = data / "radar.json"
    return Radar.load(path) if path.exists() else None


def keep(radar: Radar, data: Path = DATA) -> Path:
    """Keep what was found, and draw it; return the file."""
    radar.save(data / "radar.json")
    draw_kept(radar, data / "figures")
    return data / "radar.json"


def draw_kept(radar: Radar, figures: Path) -> None:
    """Draw the figures of the README and the report."""
    draw_radar(radar, "versions").save(figures / "radar.svg")
    draw_radar(radar, "servers").save(figures / "fates.svg")


def keep_stopped(server: str, traces: Traces, data: Path = DATA) -> None:
    """Keep the requests of a server that was told to end while their work went on."""
    path = stopped_path(server, data)
    path.parent.mkdir(exist_ok=True)
    traces.save(path)


def kept_stopped(server: str, data: Path = DATA) -> Traces:
    """Return these requests. Raises ValueError for a server that the radar has none of."""
    path = stopped_path(server, data)
    if not path.exists():
        known = ", ".join(sorted(each.stem for each in path.parent.glob("*.json")))
        raise ValueError(f"no server {server!r} was stopped; there are {known}")
    return Traces.load(path)


def stopped_path(server: str, data: Path) -> Path:
    return data / "radar" / f"{server}.json"
