"""The CPythons that are on this machine."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path


def pythons(oldest: tuple[int, int]) -> dict[str, str]:
    """One interpreter for each version from `oldest` on, by its version."""
    names = [f"python3.{minor}" for minor in range(oldest[1], 20)]
    places = [shutil.which(name) for name in names]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    places += [str(place) for place in sorted(pyenv.glob("3.*/bin/python"))]
    found = {}
    for place in [sys.executable, *filter(None, places)]:
        code = "import sys; print(sys.implementation.name, *sys.version_info[:2])"
        said = subprocess.run([place, "-c", code], capture_output=True, text=True).stdout
        if version := re.fullmatch(r"cpython (\d+) (\d+)\n", said):
            minor = int(version[1]), int(version[2])
            if minor >= oldest:
                found.setdefault("{}.{}".format(*minor), place)
    return found
