"""The settings of the service, its queue and its workers, read from the environment."""

from __future__ import annotations

import functools
import os
from typing import Literal

from platformdirs import user_data_path
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError


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
    MOST_HELD: int = Field(
        500,
        ge=1,
        description="how many deliveries, and how many mails, a web process holds until they are "
        "done; callers get 503 above it: at least 1",
    )
    MOST_HELD_BYTES: int = Field(
        8 * 1024 * 1024,
        ge=1,
        description="how large the bodies of these may be in all, forty times as much in memory "
        "at the worst; callers get 503 above it: bytes, at least 1",
    )
    LOG_PAYLOADS: bool = Field(
        True, description="whether the log shows payloads: `true` or `false`"
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
        "delivery-keys",
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
        description="the queue's name at its broker: 1 to 100 ASCII letters, digits, `.`, `_`, `-`",
    )
    DATABASE_URL: str = Field(
        f"sqlite:///{user_data_path('webhooks', appauthor=False) / 'deliveries.sqlite3'}",
        description="the database of the queue's deliveries: `sqlite:////absolute/path`, or "
        "`postgresql://user:password@host/name` for workers on several hosts",
    )
    LEASE_SECONDS: float = Field(
        10,
        ge=0.5,
        le=3600,
        description="how soon another worker may take the delivery of one that was not heard of "
        "again: seconds, 0.5 to 3600",
    )
    MOST_SECONDS: int = Field(
        3600,
        ge=1,
        le=86400,
        description="when a worker gives up an attempt at a delivery: seconds, 1 to 86400",
    )
    KEPT_DAYS: float = Field(
        7,
        ge=0,
        le=3650,
        description="how long it is known that a delivery is done: days, up to 3650",
    )

    @field_validator("DATABASE_URL")
    @classmethod
    def _one_that_remembers(cls, given: str) -> str:
        try:
            url = make_url(given)
        except ArgumentError:
            raise ValueError("not a database's URL") from None
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        if url.drivername == "sqlite":
            if not os.path.isabs(url.database or ""):
                raise ValueError("not an absolute path")
        elif url.drivername != "postgresql+psycopg":
            raise ValueError("neither SQLite nor PostgreSQL")
        return url.render_as_string(hide_password=False)


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
