"""An app with one empty task, for an environment that has nothing of ours."""

from fastapi import BackgroundTasks, FastAPI

app = FastAPI()


def first():
    pass


@app.get("/one", status_code=202)
async def one_task(tasks: BackgroundTasks):
    tasks.add_task(first)
