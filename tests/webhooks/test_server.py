"""What server.py promises: the guide's contract, its limits, and what it keeps to itself.

The in-memory transport returns only after the background tasks: good for their effects (and it
raises what they raise), useless for timing.
"""

import asyncio
import gc
import hashlib
import hmac
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time

import httpx
import pytest

import server
from lab import Inbox, delivery
from lab.lessons.samples import TEST_SECRET
from webhooks.settings import settings
from webhooks.work import LONGEST_LOGGED, logger, process_and_log_webhook, shortened

WEBHOOKS = ["/webhook-test", "/webhook-test/inline", "/webhook-test/thread"]
INVALID = {"error": "Invalid JSON"}


def call(method, path, **options):
    async def answer():
        transport = httpx.ASGITransport(server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **options)

    before = set(threading.enumerate())
    response = asyncio.run(answer())
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    return response


async def chunks(*parts):
    for part in parts:
        yield part


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    monkeypatch.setitem(server.app.state._state, "work_seconds", 0)


@pytest.fixture
def lines():
    seen = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())
    logger.addHandler(handler)
    yield seen
    logger.removeHandler(handler)


@pytest.fixture
def handed_over(monkeypatch):
    """Replace the work by a list of its arguments."""
    seen = []

    def process_and_log_webhook(headers, body, seconds):
        seen.append((headers, body))

    monkeypatch.setattr(server, "process_and_log_webhook", process_and_log_webhook)
    return seen


@pytest.fixture
def secret(monkeypatch):
    monkeypatch.setitem(server.app.state._state, "webhook_secret", TEST_SECRET)


@pytest.fixture
def inbox():
    inbox = Inbox()
    yield inbox
    inbox.stop()


# The guide's contract


@pytest.mark.parametrize("path", WEBHOOKS)
def test_a_delivery_is_accepted_and_logged(path, lines):
    response = call("POST", path, **delivery("push"))
    assert (response.status_code, response.json()) == (202, {"status": "Accepted"})
    started, event, headers, payload, finished = lines[1:]
    assert started == "--- Background webhook processing started ---"
    assert event == "GitHub Event: push"
    assert headers.startswith("Received headers: {")
    assert payload.startswith("Received payload: {'ref': 'refs/heads/main'")
    assert finished == "--- Background webhook processing finished ---"


def test_without_an_event_no_event_is_logged(lines):
    call("POST", "/webhook-test", json={"a": 1})
    assert not [line for line in lines if line.startswith("GitHub Event")]
    assert "Received payload: {'a': 1}" in lines


@pytest.mark.parametrize("path", WEBHOOKS)
def test_headers_and_body_are_handed_over(path, handed_over):
    call("POST", path, json={"a": [1, None]}, headers={"X-GitHub-Event": "ping"})
    [(headers, body)] = handed_over
    assert headers["x-github-event"] == "ping"
    assert body == {"a": [1, None]}


@pytest.mark.parametrize("path", WEBHOOKS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b'{"a":',
        b"\xff\xfe\xfa",
        b"caf\xe9",
        b"[" * 100000,
        b"9" * 5000,
        b'{"a":' * 100000 + b"1" + b"}" * 100000,
        b"[1,]",
        b"\x00",
    ],
    ids=lambda content: repr(content[:8]),
)
def test_a_body_that_is_not_json_is_accepted_and_marked(path, content, handed_over):
    response = call("POST", path, content=content)
    assert (response.status_code, response.json()) == (202, {"status": "Accepted"})
    assert [body for _, body in handed_over] == [INVALID]


@pytest.mark.parametrize("content", [b"[1]", b'"text"', b"7", b"null", b"true", b"NaN", b"1e999"])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "image/png"])
def test_any_json_value_of_any_content_type_is_processed(content, content_type, lines):
    response = call(
        "POST", "/webhook-test", content=content, headers={"Content-Type": content_type}
    )
    assert response.status_code == 202
    assert lines[-1] == "--- Background webhook processing finished ---"


def test_ping_answers():
    response = call("GET", "/ping")
    assert (response.status_code, response.json()) == (200, {"message": "pong"})


def test_each_hand_over_runs_the_work_on_its_own_kind_of_thread(monkeypatch):
    where = []
    monkeypatch.setattr(
        server, "process_and_log_webhook", lambda *_: where.append(threading.current_thread().name)
    )
    for path in WEBHOOKS:
        call("POST", path, json={})
    background, inline, thread = where
    assert "AnyIO" in background
    assert "AnyIO" in inline
    assert "AnyIO" not in thread
    assert threading.current_thread().name not in where


def test_inline_answers_after_the_work_and_lets_others_through(monkeypatch):
    begun, done = threading.Event(), threading.Event()

    def wait_for_the_other(headers, body, seconds):
        begun.set()
        assert done.wait(10)

    monkeypatch.setattr(server, "process_and_log_webhook", wait_for_the_other)

    async def both():
        transport = httpx.ASGITransport(server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            slow = asyncio.create_task(client.post("/webhook-test/inline", json={}))
            await asyncio.to_thread(begun.wait, 10)
            assert (await client.get("/ping")).status_code == 200
            assert not slow.done()
            done.set()
            assert (await slow).status_code == 202

    asyncio.run(both())


def test_the_work_takes_as_long_as_the_app_is_set_to(monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setitem(server.app.state._state, "work_seconds", 0.7)
    call("POST", "/webhook-test", json={})
    assert slept == [0.7]


# Limits


@pytest.mark.parametrize("path", WEBHOOKS)
def test_a_body_over_the_limit_is_refused(path, handed_over):
    limit = settings().MAX_BODY_BYTES
    assert call("POST", path, content=b" " * (limit + 1)).status_code == 413
    parts = chunks(*[b" " * (limit // 2)] * 3)
    assert call("POST", path, content=parts).status_code == 413
    assert handed_over == []


@pytest.mark.parametrize("path", WEBHOOKS)
def test_a_body_at_the_limit_is_accepted(path, handed_over):
    content = b'"' + b"x" * (settings().MAX_BODY_BYTES - 2) + b'"'
    assert call("POST", path, content=content).status_code == 202
    assert call("POST", path, content=chunks(content[:9], content[9:])).status_code == 202
    assert [len(body) for _, body in handed_over] == [len(content) - 2] * 2


# Signatures


@pytest.mark.parametrize("path", WEBHOOKS)
def test_a_signed_delivery_is_accepted(path, secret, handed_over):
    assert call("POST", path, **delivery("issues")).status_code == 202
    assert len(handed_over) == 1


@pytest.mark.parametrize("path", WEBHOOKS)
@pytest.mark.parametrize(
    "signature",
    [
        None,
        b"",
        b"sha256=",
        b"sha256=00",
        "sha256=ü".encode("latin-1"),
        b"sha256=\xe9",
        b"\xff",
        b"sha1=" + b"0" * 40,
        b"sha256=" + b"0" * 64,
    ],
)
def test_a_wrong_signature_is_refused(path, signature, secret, handed_over):
    headers = {} if signature is None else {b"X-Hub-Signature-256": signature}
    assert call("POST", path, content=b"{}", headers=headers).status_code == 401
    assert handed_over == []


def test_a_signature_is_valid_for_its_own_body_only(secret):
    sent = delivery("push")
    assert call("POST", "/webhook-test", **sent | {"content": b"{}"}).status_code == 401


def test_a_signed_body_need_not_be_json(secret, handed_over):
    digest = hmac.new(TEST_SECRET.encode(), b"?", hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature-256": f"sha256={digest}"}
    assert call("POST", "/webhook-test", content=b"?", headers=headers).status_code == 202
    assert handed_over[0][1] == INVALID


def test_without_a_secret_any_signature_is_accepted():
    headers = {b"X-Hub-Signature-256": b"\xe9"}
    assert call("POST", "/webhook-test", content=b"{}", headers=headers).status_code == 202


# What the log shows


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "X-Hub-Signature",
        "X-Hub-Signature-256",
        "X-Api-Key",
        "X-Gitlab-Token",
        "X-Amz-Security-Token",
        "Referer",
        "X-Anything",
    ],
)
def test_a_header_that_may_be_secret_is_not_logged(name, lines):
    call("POST", "/webhook-test", json={}, headers={name: "s3cret"})
    assert f"'{name.lower()}': '[redacted]'" in "\n".join(lines)
    assert "s3cret" not in "\n".join(lines)


def test_harmless_headers_are_logged(lines):
    sent = delivery("push")
    call("POST", "/webhook-test", **sent)
    [headers] = [line for line in lines if line.startswith("Received headers")]
    assert sent["headers"]["X-GitHub-Delivery"] in headers
    assert sent["headers"]["User-Agent"] in headers
    assert sent["headers"]["X-Hub-Signature-256"] not in headers


@pytest.mark.parametrize("body", ["x" * 100_000, ["x"] * 100_000, {"x" * 100_000: 1}])
def test_a_long_payload_is_cut(body, lines):
    process_and_log_webhook({"x-github-event": "e" * 100_000}, body, 0)
    assert max(map(len, lines)) < LONGEST_LOGGED + 100
    assert f"[{len(body) if isinstance(body, str) else len(repr(body))}]" in "\n".join(lines)


def test_a_value_cannot_forge_a_log_line(lines):
    forged = "push\r\n--- Background webhook processing finished ---\x1b[2J"
    process_and_log_webhook({"x-github-event": forged, forged: forged}, forged, 0)
    assert all(line.isprintable() for line in lines)


def test_a_value_too_deep_to_show_is_processed_all_the_same(lines):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    process_and_log_webhook({}, deep, 0)
    assert lines[-1] == "--- Background webhook processing finished ---"
    assert any("too deep" in line for line in lines)


CONTROLS = [*range(0x20), *range(0x7F, 0xA0), 0x200E, 0x2028, 0x202E, 0x2066, 0xFEFF, 0xD800]


@pytest.mark.parametrize("control", [chr(code) for code in CONTROLS], ids=ascii)
def test_no_control_character_of_the_callers_is_logged(control, lines):
    forged = f"a{control}INFO: all is well"
    headers = {"x-github-event": forged, "x-github-delivery": forged, forged: forged}
    process_and_log_webhook(headers, {forged: [forged]}, 0)
    process_and_log_webhook({}, forged, 0)
    assert not [line for line in lines if not line.isprintable()]
    assert control not in shortened(forged)
    assert control not in shortened(ValueError(forged))


@pytest.mark.parametrize("path", WEBHOOKS)
def test_a_deployment_can_keep_payloads_out_of_the_log(path, lines, monkeypatch):
    monkeypatch.setenv("LOG_PAYLOADS", "false")
    call("POST", path, json={"token": "hunter2"})
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    call("POST", path, content=b"payload=[%22hunter2%22]", headers=form)
    assert lines.count("Received payload: [not logged]") == 2
    assert not [line for line in lines if "hunter2" in line]


# E-mail


@pytest.mark.parametrize("path", ["/send-email", "/send-email/thread"])
def test_a_mail_arrives(path, inbox):
    response = call("POST", path, params={"email": "ada+lab@example.com"})
    assert (response.status_code, response.json()) == (200, {"message": "Email sent"})
    [message] = inbox.messages
    assert message["To"] == "ada+lab@example.com"
    assert message["Subject"] == "Notification"
    assert "received" in message.get_content()
    assert "ada+lab@example.com" in inbox._repr_html_()


@pytest.mark.parametrize("path", ["/send-email", "/send-email/thread"])
@pytest.mark.parametrize(
    "email",
    [
        "",
        "nobody",
        "a@b@c",
        "a b@example.com",
        "a@example.com\n",
        "a@example.com\r\nBcc: b@c.d",
        "a@example.com\x00",
        "a@exa\nmple.com",
        "ü@example.com",
        "a@example.com, b@example.com",
        "<a@example.com>",
        "a@" + "b" * 300,
        "@",
        "a@",
        "@b",
        "a@b..c",
        "a@ex\u2028.com",
    ],
)
def test_an_invalid_address_is_refused(path, email, inbox):
    assert call("POST", path, params={"email": email}).status_code == 422
    assert inbox.messages == []


def test_a_missing_address_is_refused():
    assert call("POST", "/send-email").status_code == 422


def test_a_mail_that_cannot_be_sent_fails_in_the_task(monkeypatch, inbox):
    port = str(inbox.port)
    inbox.stop()
    monkeypatch.setenv("SMTP_PORT", port)
    with pytest.raises(ConnectionRefusedError):
        call("POST", "/send-email", params={"email": "ada@example.com"})


# The inbox


def test_a_new_inbox_replaces_the_old_one():
    threads = set(threading.enumerate())
    inbox = Inbox()
    first_port, first_messages = inbox.port, inbox.messages
    inbox = Inbox()
    gc.collect()
    assert len(set(threading.enumerate()) - threads) == 1
    assert os.environ["SMTP_PORT"] == str(inbox.port) != str(first_port)
    call("POST", "/send-email", params={"email": "ada@example.com"})
    assert (len(first_messages), len(inbox.messages)) == (0, 1)
    inbox.stop()
    inbox.stop()
    assert set(threading.enumerate()) <= threads  # workers of earlier tests may end meanwhile
    assert "SMTP_PORT" not in os.environ


# The environment, and the service on its own


def test_a_bare_uvicorn_prints_what_the_work_logs():
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "server:app", "--port", "0"],
        env=os.environ | {"WORK_SECONDS": "0"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        url = next(m[0] for line in process.stderr if (m := re.search(r"http://[\d.:]+", line)))
        assert url.startswith("http://127.0.0.1:")
        assert httpx.post(f"{url}/webhook-test", content=json.dumps({"a": 1})).status_code == 202
        assert any("Received payload: {'a': 1}" in line for line in process.stderr)
        assert any("processing finished" in line for line in process.stderr)
    finally:
        process.terminate()
        process.communicate(timeout=20)
