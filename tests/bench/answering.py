"""The benchmark's moments with errors planted, for who asks from another process."""

import contextlib
import io
import json
import sys

from .__main__ import main
from .planted import planted


def answer() -> None:
    """Answer each line of the input: what to plant, or [] for nothing, by what the benchmark says.

    It is given and answered as JSON: the arguments of `planted`; the exit code and the table.
    """
    for line in sys.stdin:
        wanted = json.loads(line)
        with (
            planted(*wanted) if wanted else contextlib.nullcontext(),
            contextlib.redirect_stdout(io.StringIO()) as printed,
        ):
            code = main(["moments"])
        print(json.dumps([code, printed.getvalue()]), flush=True)
