"""An app as it is served bare, and watched in each place; every server in a process of its own."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator

from lab.publishing.notebooks import ROOT

# The same uvicorn in all: asyncio and h11, as `serve` has it.
BARE = """
import threading, time, uvicorn
config = uvicorn.Config({app!r}, port=0, loop={loop!r}, http={http!r}, log_config=None,
                        access_log=False)
server = uvicorn.Server(config)
threading.Thread(target=server.run, daemon=True).start()
while not server.started:
    time.sleep(0.01)
url = "http://127.0.0.1:%d" % server.servers[0].sockets[0].getsockname()[1]
"""
WATCHED = """
from lab import serve
web = serve({app!r}, on={place!r}, loop={loop!r}, http={http!r})
url = web.url
"""
TELL = """
import sys
print(url, flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def served(app: str, place: str, loop: str = "asyncio", http: str = "h11") -> Iterator[str]:
    """The URL of an app, by its import string. place: "bare", "thread" or "process"."""
    template = BARE if place == "bare" else WATCHED
    code = template.format(app=app, place=place, loop=loop, http=http) + TELL
    server = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        # As a server with a process of its own has: Linux shares its time among sessions.
        start_new_session=True,
    )  # fmt: skip
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.communicate()
