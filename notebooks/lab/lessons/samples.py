"""Sample deliveries of GitHub webhooks, with the headers and the bytes that GitHub sends."""

from __future__ import annotations

import difflib
import json
import re
import uuid
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[3] / "data" / "deliveries"
TEST_SECRET = "lab-test-secret"
"""The secret that the stored deliveries are signed with; try it as `WEBHOOK_SECRET`."""


def delivery(name: str) -> dict[str, Any]:
    """Return a stored delivery under a new id, as arguments for `web.post`: content, headers.

    name: a file of `data/deliveries`, without `.json`. Raises ValueError, which lists the known
    names, for any other.
    """
    known = {path.stem: path for path in sorted(FOLDER.glob("*.json"))}
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"no delivery {name!r} among {', '.join(known)}{hint}")
    text = known[name].read_bytes().decode()
    headers = json.loads(text)["headers"]
    return {
        "content": _stored_body(text),
        "headers": {**headers, "X-GitHub-Delivery": str(uuid.uuid4())},
    }


def _stored_body(text: str) -> bytes:
    # The signature is over these very bytes: parsed and written again, they would differ.
    start = re.search(r'^\s*"body"\s*:\s*', text, re.MULTILINE)
    if start is None:
        raise ValueError('a stored delivery needs its "body" on a line of its own')
    _, end = json.JSONDecoder().raw_decode(text, start.end())
    return text[start.end() : end].encode()
