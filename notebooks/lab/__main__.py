"""The lab's commands: `python -m lab [open | build | record | report | bench]`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from .building import NOTEBOOKS, ROOT, build, make, sources


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("open", help="open JupyterLab at the first lesson (the default)")
    commands.add_parser("build", help="make the notebooks from notebooks/source")
    commands.add_parser("record", help="run the lessons and keep what they measure in data/")
    report = commands.add_parser("report", help="run all notebooks and write them as HTML pages")
    report.add_argument("--to", type=Path, default=ROOT / "reports", help="the folder to write")
    report.add_argument("--again", action="store_true", help="render the last run, run nothing")
    commands.add_parser("bench", help="measure the instrument itself")
    chosen, rest = parser.parse_known_args(arguments)
    if rest and chosen.command in ("build", "record", "report"):
        parser.error(f"unknown: {' '.join(rest)}")
    match chosen.command:
        case "build":
            for path in build():
                print(path.relative_to(ROOT))
            return 0
        case "record":
            return record()
        case "report":
            return write_report(chosen.to, chosen.again)
        case "bench":
            return subprocess.call([sys.executable, "-m", "tests.bench", *rest], cwd=ROOT)
        case _:
            return open_lab(rest)


def open_lab(arguments: list[str]) -> int:
    """Open JupyterLab, rooted where `server.py` and `data/` stand in sight."""
    quiet = [
        "--KernelManager.transport_encryption=auto",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    first = "--LabApp.default_url=/lab/tree/notebooks/01_answer_first.ipynb"
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={ROOT}", first, *quiet]
    try:
        return subprocess.call([*command, *arguments], cwd=ROOT)
    except KeyboardInterrupt:
        return 0


def record() -> int:
    from .recording import draw_all, recorded
    from .reporting import execute

    failed = 0
    for source in sources():
        print(f"recording {source.stem}", flush=True)
        kept = recorded(make(source, "en"), ROOT / "data" / "recordings" / source.stem)
        if problem := execute(kept, NOTEBOOKS):
            print(f"FAILED {source.stem}, {problem}")
            failed = 1
    draw_all(ROOT / "data" / "recordings", ROOT / "data" / "figures")
    return failed


def write_report(to: Path, again: bool) -> int:
    from .reporting import render, run

    problems = {} if again else run(to, tell=lambda line: print(line, flush=True))
    try:
        render(to)
    except FileNotFoundError:
        print(f"no run stands in {to}: leave out --again to run the notebooks first")
        return 1
    print(f"{to / 'index.html'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
