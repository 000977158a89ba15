"""A server that forgets an app's call as soon as the answer is out: give it APP and PORT."""

import asyncio
import importlib
import sys

import uvicorn

sys.path.insert(0, "")  # as servers do
name, port = sys.argv[1:]
module, _, attribute = name.partition(":")
app = getattr(importlib.import_module(module), attribute)


async def dropping(scope, receive, send):
    if scope["type"] != "http":
        await app(scope, receive, send)
        return
    over = asyncio.Event()

    async def seen(message):
        await send(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            over.set()

    call = asyncio.ensure_future(app(scope, receive, seen))
    await over.wait()
    call.cancel()


uvicorn.run(dropping, port=int(port), log_level="warning")
