"""The settings of the service, its queue and its workers, read from the environment."""

from __future__ import annotations

import functools
import os
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

MARGIN = 5.0


class WrongSetting(ValueError):
    """A variable of the environment has a value that its setting does not accept."""


class Settings(BaseSettings):
    """The variables, under their own names. Read them with `settings()`."""

    model_config = SettingsConfigDict(case_sensitive=True)

    WORK_SECONDS: float = Field(
        0.3, ge=0, le=3600, description="how long the work on a delivery takes: seconds, 0 to 3600"
    )
    WORK_KIND: Literal["wait", "compute"] = Field(
        "wait", description="what the work does meanwhile: `wait` or `compute`"
    )
    MAX_BODY_BYTES: int = Field(
        1024 * 1024, ge=1, description="the largest body that is accepted: bytes, at least 1"
    )
    WEBHOOK_SECRET: str | None = Field(
        None, min_length=1, description="what deliveries are signed with; unset, none is checked"
    )
    SMTP_HOST: str = Field(
        "127.0.0.1", min_length=1, description="the mail server: a name or an address"
    )
    SMTP_PORT: int = Field(1025, ge=1, le=65535, description="the mail server's port: 1 to 65535")
    CELERY_BROKER_URL: str | None = Field(
        None,
        pattern=r"^(rediss?|amqps?)://",
        description="the broker: a URL that begins with redis:// or amqp://",
    )
    CELERY_QUEUE: str = Field(
        "deliveries",
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="the queue's name at its broker: 1 to 100 ASCII letters, digits, `.`, `_`, `-`",
    )
    WORKER_SECONDS: float | None = Field(
        None,
        gt=0,
        le=7200,
        description="how long a worker may take over a delivery before Redis gives it to another: "
        f"seconds, up to 7200; unset, WORK_SECONDS and {MARGIN:g} more",
    )
    EFFECTS_DATABASE: str = Field(
        "effects.sqlite3",
        min_length=1,
        description="where effects are kept, once for each delivery: the path of a SQLite file",
    )

    @property
    def longest_work(self) -> float:
        """How long a worker may take over a delivery, in seconds."""
        return self.WORKER_SECONDS or self.WORK_SECONDS + MARGIN


def settings() -> Settings:
    """Read the settings from the current environment.

    Raises WrongSetting, which names each wrong variable and the values that it accepts.
    """
    return _read(tuple(os.environ.get(name) for name in Settings.model_fields))


@functools.cache  # reading takes 0.4 ms, too long for every request
def _read(values: tuple[str | None, ...]) -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        wrong = {str(each["loc"][0]): each["msg"] for each in error.errors()}
    # The message leaves the values out: some are secrets.
    raise WrongSetting(
        "; ".join(
            f"{name} takes {Settings.model_fields[name].description} ({reason})"
            for name, reason in wrong.items()
        )
    )
