"""`python -m tests.bench [ROW ...]`: measure the instrument, print a table, exit 1 below a bar."""

import os
import platform
import sys
from importlib.metadata import version

from .rows import ROWS


def main(chosen: list[str]) -> int:
    unknown = [name for name in chosen if name not in ROWS]
    if unknown:
        print(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
        return 2
    packages = ", ".join(f"{name} {version(name)}" for name in ("fastapi", "uvicorn", "httpx"))
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"Python {platform.python_version()}, {packages}, {os.cpu_count()} cores{load}")
    missed = 0
    for name in chosen or ROWS:
        for row in ROWS[name](1.0):
            bar = f"{'<=' if row.at_most else '>='} {row.bar:g}"
            missed += not row.holds
            verdict = "holds" if row.holds else "MISSED"
            print(
                f"{row.name:<40} {row.value:>9.3f} {row.unit:<4} {bar:>10}  {verdict}", flush=True
            )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
