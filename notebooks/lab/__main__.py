"""The lab's commands: `python -m lab`, followed by one of them; `--help` lists them."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

# Each command imports what it needs: to watch an app takes neither Jupyter nor matplotlib.
ROOT = Path(__file__).parents[2]
FIRST = "/lab/tree/notebooks/01_answer_first.ipynb"


def main(arguments: list[str] | None = None) -> int:
    """Run the command of a command line; return the exit code, 0 on success."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given or (given[0] not in {"-h", "--help"} and given[0].startswith("-")):
        given = ["open", *given]
    own: list[str] = []
    if given[0] == "watch" and "--" in given:
        dashes = given.index("--")
        given, own = given[:dashes], given[dashes + 1 :]
    chosen, rest = parser().parse_known_args(given)
    if rest and chosen.command not in ("open", "bench"):
        parser().error(f"unrecognized arguments: {' '.join(rest)}")
    match chosen.command:
        case "watch":
            return watch(chosen.app, own, chosen.cwd, chosen.save)
        case "show":
            return show(chosen.file)
        case "build":
            return write_notebooks()
        case "record":
            return record(chosen.lesson)
        case "report":
            return write_report(chosen.to, chosen.again)
        case "radar":
            return find(chosen.only, chosen.jobs)
        case "bench":
            return subprocess.call([sys.executable, "-m", "tests.bench", *rest], cwd=ROOT)
        case _:
            return open_lab(rest)


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog="python -m lab", allow_abbrev=False)
    commands = whole.add_subparsers(dest="command", metavar="command")
    commands.add_parser(
        "open",
        allow_abbrev=False,
        help="open JupyterLab at the first lesson (the default); options go on to `jupyter lab`",
    )
    watching = commands.add_parser(
        "watch",
        usage="python -m lab watch [--save FILE] [--cwd DIR] APP [-- COMMAND ...]",
        help="serve an app, and print each request here as a timeline",
        epilog="COMMAND is what serves the app, with {app} and {port} in it; without it, uvicorn.",
    )
    watching.add_argument("app", metavar="APP", help="where to import it from (shop.main:app)")
    watching.add_argument("--save", metavar="FILE", type=Path, help="add the requests to a file")
    watching.add_argument("--cwd", metavar="DIR", type=Path, help="the folder to start it in")
    showing = commands.add_parser("show", help="print the requests of a file as timelines")
    showing.add_argument("file", metavar="FILE", type=Path, help="as Traces.save writes it")
    commands.add_parser("build", help="make the notebooks from notebooks/source")
    recording = commands.add_parser(
        "record", help="run lessons, keep what they measure in data/ and draw the README's figures"
    )
    recording.add_argument(
        "lesson", metavar="LESSON", nargs="?", type=recordable,
        help="by number or name (05, 05_when_a_task_fails); without it, all that have figures",
    )  # fmt: skip
    report = commands.add_parser("report", help="run all notebooks and write them as HTML pages")
    report.add_argument("--to", type=Path, default=ROOT / "reports", help="the folder to write")
    report.add_argument("--again", action="store_true", help="render the last run, run nothing")
    radar = commands.add_parser(
        "radar", help="try versions of FastAPI and servers, each in an environment of its own"
    )
    radar.add_argument(
        "--only", action="append", default=[], metavar="NAME",
        help="a version or server (0.115.0, newest, hypercorn), once or more; without it, all",
    )  # fmt: skip
    radar.add_argument("--jobs", type=int, default=2, help="how many at a time (2)")
    commands.add_parser("bench", help="measure the instrument itself")
    return whole


def watch(app: str, command: list[str], cwd: Path | None, save: Path | None) -> int:
    from .terminal.watching import watch

    return watch(app, command, cwd, save)


def show(path: Path) -> int:
    from .terminal.window import show

    return show(path)


def open_lab(options: list[str]) -> int:
    """Open JupyterLab in the repository's root, so that `server.py` and `data/` are in sight."""
    from jupyter_core.paths import jupyter_config_dir
    from jupyterlab.labapp import LabApp  # type: ignore[import-untyped]

    from .publishing.notebooks import sign

    # Quiet, by defaults in a folder of their own that comes after the reader's: no question about
    # news, no lines of every start. Without transport_encryption, and with a ws_ping_timeout longer
    # than the time between pings, the server warns at every kernel.
    places = [
        os.environ.get("JUPYTER_CONFIG_PATH"),
        jupyter_config_dir(),
        str(Path(__file__).with_name("jupyter_config")),
    ]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, places))
    sign()
    print("Press Control-C here to end the lab.", flush=True)
    lab = [f"--ServerApp.root_dir={ROOT}", f"--LabApp.default_url={FIRST}"]
    # In this process, so that Ctrl-C asks JupyterLab, which ends its kernels.
    LabApp.launch_instance([*lab, *options])
    return 0


def write_notebooks() -> int:
    from .publishing.notebooks import build

    try:
        changed = build()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    for path in changed:
        print(path.relative_to(ROOT))
    return 0


def recordable(given: str) -> str:
    """Return the lesson with a number or name.

    Raises ArgumentTypeError, which lists the known lessons, for any other.
    """
    from .publishing.recordings import LESSONS

    for lesson in LESSONS:
        if given.zfill(2) in (lesson, lesson[:2]):
            return lesson
    raise argparse.ArgumentTypeError(
        f"no lesson {given!r} that has figures; there are {', '.join(LESSONS)}"
    )


def record(only: str | None) -> int:
    from .publishing.notebooks import NOTEBOOKS, make
    from .publishing.recordings import LESSONS, draw_all, recorded
    from .publishing.run import execute

    recordings, failed = ROOT / "data" / "recordings", 0
    for lesson in [only] if only else LESSONS:
        print(f"recording {lesson}", flush=True)
        notebook = make(NOTEBOOKS / "source" / f"{lesson}.py", "en")
        if problem := execute(recorded(notebook, lesson, recordings), NOTEBOOKS):
            print(f"FAILED {lesson}, {problem}")
            failed = 1
    draw_all(recordings, ROOT / "data" / "figures")
    return failed


def find(only: list[str], jobs: int) -> int:
    """Run the radar, tell what has turned since the last time, and keep what was found."""
    from .radar.kept import keep, keep_stopped, known
    from .radar.run import radar, stopped

    before = known()
    try:
        found = radar(only, jobs, say=lambda line: print(line, flush=True))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for line in found.turned(before) if before else []:
        print(f"turned: {line}")
    for name, column in found.servers.items():
        if column.trouble is None:
            keep_stopped(name, stopped(name))
    found.versions.pop("newest", None)  # its place in the table comes with its pin
    print(keep(found.beside(before) if before and only else found))
    return 0


def write_report(to: Path, again: bool) -> int:
    from .publishing.pages import render
    from .publishing.run import run

    problems = {} if again else run(to, say=lambda line: print(line, flush=True))
    try:
        render(to)
    except FileNotFoundError:
        print(f"{to} holds no run: leave out --again to run the notebooks first")
        return 1
    print(to / "index.html")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
