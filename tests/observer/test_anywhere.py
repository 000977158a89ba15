"""The observer can be loaded into any environment: by its path, under another name, from 3.9 on."""

import subprocess
from pathlib import Path

import pytest

import lab.observer

from ..pythons import pythons

FOLDER = Path(lab.observer.__file__).parent
# Without site-packages: what it imports then is the standard library's or its own.
LOAD = """
import asyncio, importlib.util, pathlib, sys
folder = pathlib.Path(sys.argv[1])
spec = importlib.util.spec_from_file_location(
    "_seen", str(folder / "__init__.py"), submodule_search_locations=[str(folder)]
)
sys.modules["_seen"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["_seen"])
for file in folder.glob("*.py"):
    importlib.import_module("_seen." + file.stem if file.stem != "__init__" else "_seen")
from _seen.hooks import hooked
from _seen.asgi import Watched

seen = []

async def work():
    pass

async def app(scope, receive, send):
    task = asyncio.create_task(work())
    await send({"type": "http.response.start", "status": 202})
    await send({"type": "http.response.body", "body": b""})
    await task

async def send(message):
    pass

scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
with hooked():
    asyncio.run(Watched(app, lambda stamp: seen.append(stamp[1]))(scope, None, send))
assert seen == ["received", "added", "responded", "started", "finished", "returned"], seen
assert not [name for name in sys.modules if name.partition(".")[0] == "lab"]
"""


@pytest.mark.parametrize("version", found := pythons((3, 9)))
def test_it_loads_and_stamps_in_every_cpython(version: str) -> None:
    done = subprocess.run(
        [found[version], "-I", "-S", "-c", LOAD, str(FOLDER)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
