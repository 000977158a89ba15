"""An app that computes in a pool of spawned processes, and notes each process that imports it."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

from fastapi import FastAPI
from numbers_of import crunch

with open(os.environ["IMPORTED_BY"], "a") as noted:
    noted.write(f"{os.getpid()}\n")

app = FastAPI()


@app.post("/")
def endpoint():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(crunch).result(30)
