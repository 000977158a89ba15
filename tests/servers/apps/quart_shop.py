import asyncio

from quart import Quart

app = Quart(__name__)


async def ship():
    await asyncio.sleep(0.2)


@app.post("/orders")
async def order():
    app.add_background_task(ship)
    return {}, 202
