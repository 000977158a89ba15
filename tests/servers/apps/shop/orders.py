import asyncio
import time

from fastapi import APIRouter, BackgroundTasks, Depends, UploadFile

from .database import Order, session

router = APIRouter()


def bill(item):
    time.sleep(0.2)


async def ship(item):
    await asyncio.sleep(0.2)


@router.post("/orders", status_code=202)
def order(item: str, tasks: BackgroundTasks, session=Depends(session)):
    session.add(Order(item=item))
    session.commit()
    tasks.add_task(bill, item)
    tasks.add_task(ship, item)
    return {"orders": session.query(Order).count()}


@router.post("/pictures")
async def picture(file: UploadFile, tasks: BackgroundTasks):
    content = await file.read()
    tasks.add_task(ship, file.filename)
    return {"bytes": len(content)}
