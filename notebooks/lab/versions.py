"""With what a run was made."""

from __future__ import annotations

from importlib.metadata import version
from platform import python_version

PACKAGES = ("fastapi", "starlette", "uvicorn", "anyio", "httpx", "celery")


def versions() -> str:
    """Python and the packages whose behaviour the lab shows, with their versions."""
    told = [f"Python {python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)]
    return ", ".join(told)
