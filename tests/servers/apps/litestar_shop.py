import asyncio

from litestar import Litestar, Response, post
from litestar.background_tasks import BackgroundTask


async def ship():
    await asyncio.sleep(0.2)


@post("/orders", status_code=202)
async def order() -> Response:
    return Response({}, status_code=202, background=BackgroundTask(ship))


app = Litestar([order])
