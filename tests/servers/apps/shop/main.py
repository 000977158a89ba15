from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.middleware.base import BaseHTTPMiddleware

from .database import Base, engine
from .orders import router


@asynccontextmanager
async def lifespan(app):
    Base.metadata.create_all(engine)
    yield


async def named(request, call_next):
    response = await call_next(request)
    response.headers["X-Shop"] = "ours"
    return response


app = FastAPI(lifespan=lifespan)
app.add_middleware(BaseHTTPMiddleware, dispatch=named)
app.include_router(router)


@app.get("/broken")
def broken():
    raise RuntimeError("out of stock")
