"""The settings: one class, described in the README; wrong values are refused at the start."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from platformdirs import user_data_path

from lab.publishing.notebooks import ROOT
from webhooks.settings import Settings, WrongSetting, settings

WRONG = [
    ("WORK_SECONDS", "soon"),
    ("WORK_SECONDS", "-1"),
    ("WORK_SECONDS", "nan"),
    ("WORK_SECONDS", "inf"),
    ("WORK_KIND", "sleep"),
    ("MAX_BODY_BYTES", "1MB"),
    ("MAX_BODY_BYTES", "0"),
    ("MOST_HELD", "0"),
    ("MOST_HELD", "many"),
    ("MOST_HELD_BYTES", "0"),
    ("LOG_PAYLOADS", "perhaps"),
    ("WEBHOOK_SECRET", ""),
    ("SMTP_HOST", ""),
    ("SMTP_PORT", "smtp"),
    ("SMTP_PORT", "0"),
    ("SMTP_PORT", "70000"),
    ("CELERY_BROKER_URL", "memory://"),
    ("CELERY_BROKER_URL", ""),
    ("CELERY_QUEUE", ""),
    ("CELERY_QUEUE", "队列"),
    ("CELERY_QUEUE", "two words"),
    ("DATABASE_URL", ""),
    ("DATABASE_URL", "deliveries.sqlite3"),
    ("DATABASE_URL", "sqlite://"),
    ("DATABASE_URL", "sqlite:///:memory:"),
    ("DATABASE_URL", "sqlite:///deliveries.sqlite3"),
    ("DATABASE_URL", "mysql://localhost/webhooks"),
    ("DATABASE_URL", "postgresql+asyncpg://localhost/webhooks"),
    ("LEASE_SECONDS", "0"),
    ("MOST_SECONDS", "0"),
    ("MOST_SECONDS", "1.5"),
    ("KEPT_DAYS", "-1"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_setting_is_named_with_its_accepted_values(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(WrongSetting) as raised:
        settings()
    taken = Settings.model_fields[name].description
    assert taken is not None
    assert f"{name} takes {taken}" in str(raised.value)


def test_all_wrong_settings_are_named_at_once_without_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "http://:hunter2@broker")
    monkeypatch.setenv("SMTP_PORT", "hunter2")
    with pytest.raises(WrongSetting, match=r"SMTP_PORT.*CELERY_BROKER_URL") as raised:
        settings()
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    "command",
    [["-m", "uvicorn", "server:app", "--port", "0"], ["-m", "celery", "-A", "webhooks.worker"]],
    ids=["web", "worker"],
)
def test_a_wrong_setting_ends_the_start_of_web_and_worker(command: list[str]) -> None:
    if "celery" in command:
        command = [*command, "worker"]
    done = subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"CELERY_BROKER_URL": "redis://127.0.0.1:1/0", "CELERY_QUEUE": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "CELERY_QUEUE takes the queue's name at its broker" in done.stdout + done.stderr


def test_settings_follow_the_current_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name, raising=False)
    assert settings().WORK_SECONDS == 0.3
    monkeypatch.setenv("WORK_SECONDS", "2")
    assert settings().WORK_SECONDS == 2


def test_the_database_is_reached_by_the_driver_that_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:word@db.example/webhooks")
    assert settings().DATABASE_URL == "postgresql+psycopg://me:word@db.example/webhooks"
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/a.sqlite3")
    assert f"sqlite:///{tmp_path}/a.sqlite3" == settings().DATABASE_URL


def test_by_default_the_database_is_at_one_place_whatever_the_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    before = settings().DATABASE_URL
    monkeypatch.chdir(tmp_path)
    assert before == settings().DATABASE_URL
    assert Path(before.removeprefix("sqlite:///")).is_absolute()


def table(page: Path) -> dict[str, tuple[str, str]]:
    """Return each variable in a README with its default and its description."""
    text = page.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*?) \| (.*) \|$", text, re.MULTILINE)
    return {name: (default, meaning) for name, default, meaning in rows}


def default(name: str) -> str:
    value = Settings.model_fields[name].default
    return "" if value is None else f"`{value}`".replace(str(user_data_path()), "…")


def test_the_readme_describes_each_setting_as_the_class_does() -> None:
    assert table(ROOT / "README.md") == {
        name: (default(name), field.description) for name, field in Settings.model_fields.items()
    }


def test_the_chinese_readme_names_the_same_defaults() -> None:
    rows = table(ROOT / "notebooks/zh/README.md")
    chinese = {name: given for name, (given, _) in rows.items()}
    assert chinese == {name: default(name) for name in Settings.model_fields}


def test_nothing_else_of_the_service_reads_the_environment() -> None:
    for path in [ROOT / "server.py", *(ROOT / "webhooks").glob("*.py")]:
        if path.name != "settings.py":
            assert "os.environ" not in path.read_text(encoding="utf-8"), path
