"""Senders: GitHub's signature and its form, and how another sender is added."""

import hashlib
import hmac
import json
import re
from urllib.parse import quote, urlencode

import pytest

import server
from lab.lessons.samples import TEST_SECRET
from lab.publishing.notebooks import ROOT
from webhooks import senders
from webhooks.deliveries import Delivery
from webhooks.work import INVALID, parsed

from .test_server import call

FORM = {"content-type": "application/x-www-form-urlencoded"}


def by_github(content: bytes) -> dict[str, str]:
    digest = hmac.new(TEST_SECRET.encode(), content, hashlib.sha256).hexdigest()
    return {"X-Hub-Signature-256": f"sha256={digest}"}


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(server.app.state._state, "webhook_secret", TEST_SECRET)


@pytest.mark.parametrize("path", ["/webhook-test", "/webhook-test/inline", "/webhook-test/thread"])
def test_the_payload_of_a_form_is_what_is_worked_on(
    path: str, secret: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(server, "process_and_log_webhook", lambda _, body, __: seen.append(body))
    monkeypatch.setitem(server.app.state._state, "work_seconds", 0)
    sent = {"a": "1+1 = 2 & más", "b": [None]}
    content = urlencode({"payload": json.dumps(sent)}).encode()
    answer = call("POST", path, content=content, headers=FORM | by_github(content))
    assert (answer.status_code, seen) == (202, [sent])


def test_the_signature_of_a_form_is_over_the_bytes_that_came(secret: None) -> None:
    payload = json.dumps({"a": 1})
    content = urlencode({"payload": payload}).encode()
    signed = FORM | by_github(payload.encode())
    assert call("POST", "/webhook-test", content=content, headers=signed).status_code == 401


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"payload=%7B%22a%22%3A1%7D", {"a": 1}),
        (b"x=y&payload=[1]&payload=[2]", [1]),
        (b"payload=" + quote(json.dumps(["\u4e2d"])).encode(), ["\u4e2d"]),
        (b'{"a": 1}', {"a": 1}),  # called a form, as some clients do by default
        (b"payload=", INVALID),
        (b"payload", INVALID),
        (b"payload=%ff", INVALID),
        (b"", INVALID),
        (b"a=1&" * 1000, INVALID),
    ],
)
def test_a_form_is_read_as_its_payload(content: bytes, value: object) -> None:
    assert parsed(FORM, content) == value
    assert parsed({"content-type": FORM["content-type"] + "; charset=UTF-8"}, content) == value


def test_without_the_content_type_of_a_form_it_is_none() -> None:
    assert parsed({}, b"payload=1") == INVALID


def test_the_worker_knows_a_form_by_the_headers_that_are_kept() -> None:
    kept = Delivery.of(server.redacted(FORM), b"payload=7")
    assert parsed(kept.headers, kept.body) == 7


def test_another_sender_is_one_function(secret: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "_senders", [*senders._senders])
    with_token = {"headers": {"X-Gitlab-Token": TEST_SECRET}, "content": b"{}"}
    assert call("POST", "/webhook-test/thread", **with_token).status_code == 401

    @senders.sender
    def gitlab(headers, content, secret):  # type: ignore[no-untyped-def]
        return senders.same(headers.get("x-gitlab-token", ""), secret)

    assert call("POST", "/webhook-test/thread", **with_token).status_code == 202
    wrong = {"headers": {"X-Gitlab-Token": "é".encode()}, "content": b"{}"}
    assert call("POST", "/webhook-test/thread", **wrong).status_code == 401
    by_the_old = {"content": b"{}", "headers": by_github(b"{}")}
    assert call("POST", "/webhook-test/thread", **by_the_old).status_code == 202


@pytest.mark.parametrize("page", ["README.md", "notebooks/zh/README.md"])
def test_the_readmes_example_adds_a_sender(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "_senders", [])
    text = (ROOT / page).read_text(encoding="utf-8")
    [example] = [
        part for part in re.findall(r"```python\n(.*?)```", text, re.S) if "@sender" in part
    ]
    exec(example, {})
    assert senders.signed({"x-gitlab-token": "word"}, b"", "word")
    assert not senders.signed({"x-gitlab-token": "words"}, b"", "word")
