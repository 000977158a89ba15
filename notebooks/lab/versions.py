"""The versions that a run was made with."""

from __future__ import annotations

from importlib.metadata import version
from platform import python_version

PACKAGES = ("fastapi", "starlette", "uvicorn", "anyio", "httpx", "celery")


def versions() -> str:
    """Return Python's version, and those of the packages whose behaviour the lab shows."""
    parts = [f"Python {python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)]
    return ", ".join(parts)
