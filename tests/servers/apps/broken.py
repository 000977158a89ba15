"""An app whose lifespan fails."""

from contextlib import asynccontextmanager

from fastapi import FastAPI


@asynccontextmanager
async def lifespan(app):
    raise ValueError("no database")
    yield


app = FastAPI(lifespan=lifespan)
