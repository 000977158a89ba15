"""Hostile input on every endpoint: no 500, no failed task, no hang, no secret in the log.

HOSTILE_EXAMPLES sets how many requests are generated for each test.
"""

import asyncio
import json
import logging
import os
import socket
import threading
from urllib.parse import quote_plus

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import server
from lab import Inbox, Queue, serve
from webhooks.settings import settings as service_settings
from webhooks.work import LOGGED_HEADERS

from ..waiting import until

SECRET = "correct-horse-battery-staple"
ENDPOINTS = [(route.path, sorted(route.methods)[0]) for route in server.app.routes]
QUEUE = "/webhook-test/queue"
WEBHOOKS = [path for path, _ in ENDPOINTS if path.startswith("/webhook-test")]
LIMIT = service_settings().MAX_BODY_BYTES

fast = settings(
    max_examples=int(os.environ.get("HOSTILE_EXAMPLES", "50")),
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
bodies = st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode())
methods = st.sampled_from(
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"]
) | st.text("ABCXYZ", min_size=1, max_size=8)
tokens = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=30)
names = tokens | st.sampled_from(
    [
        "authorization",
        "cookie",
        "content-length",
        "content-type",
        "transfer-encoding",
        "expect",
        "x-hub-signature",
        "x-hub-signature-256",
        "x-github-event",
        "x-github-delivery",
        "host",
        "x-forwarded-for",
        "range",
        "upgrade",
        "connection",
        "content-encoding",
        "accept",
    ]
)
headers = st.lists(st.tuples(names, st.binary(max_size=40)), max_size=6)
hiding_places = tokens.filter(lambda name: name not in LOGGED_HEADERS) | st.sampled_from(
    ["authorization", "cookie", "x-hub-signature-256", "x-hub-signature", "x-api-key"]
)
addresses = st.text(max_size=30) | st.emails() | tokens.map(lambda name: f"{name}@example.com")
queries = st.binary(max_size=60) | addresses.map(lambda text: f"email={quote_plus(text)}".encode())


@pytest.fixture(scope="module", autouse=True)
def service():
    """The work takes no time, and mail finds an inbox."""
    inbox = Inbox()
    state = dict(server.app.state._state)
    server.app.state.work_seconds = 0
    yield inbox
    server.app.state._state.update(state)
    inbox.stop()


@pytest.fixture(scope="module")
def queue():
    with Queue(workers=1, broker="embedded", WORK_SECONDS=0) as queue:
        yield queue


@pytest.fixture(scope="module")
def web(service):
    web = serve(server.app)
    yield web
    web.stop()


@pytest.fixture(scope="module")
def lines(web):
    """Every line that any logger writes, the server's own among them."""
    seen = []
    handler = logging.Handler()
    formatter = logging.Formatter("%(message)s")  # traceback included
    handler.emit = lambda record: seen.append(formatter.format(record))
    loggers = [logging.getLogger(name) for name in (None, "uvicorn", "uvicorn.webhook")]
    for logger in loggers:
        logger.addHandler(handler)
    yield seen
    for logger in loggers:
        logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def raised(monkeypatch):
    """The exceptions of threads."""
    seen = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    return seen


def ask(method, path, query=b"", headers=(), parts=(), gone=False):
    """Call the app as a server would, even with what a client library would refuse to send."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if not gone:
        messages.append({"type": "http.request", "body": b"", "more_body": False})
    sent = []

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode("utf-8", "surrogatepass"),
        "root_path": "",
        "query_string": query,
        "headers": [(name.encode(), value) for name, value in headers],
        "client": ("127.0.0.1", 4711),
        "server": ("127.0.0.1", 8000),
    }
    before = set(threading.enumerate())
    asyncio.run(asyncio.wait_for(server.app(scope, receive, send), 10))
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("webhooks "):  # the intake's, which serve all requests
            continue
        thread.join(10)
        assert not thread.is_alive()
    [status] = [message["status"] for message in sent if "status" in message]
    content = b"".join(message.get("body", b"") for message in sent)
    return status, content


def assert_harmless(status, content, lines, raised):
    assert status < 500 or (status == 503 and b"set CELERY_BROKER_URL" in content)
    assert raised == []
    assert SECRET.encode() not in content
    assert not [line for line in lines if SECRET in line or "Traceback" in line]
    assert not [line for line in lines if not line.isprintable()]
    lines.clear()


@pytest.mark.parametrize(("path", "method"), ENDPOINTS)
@pytest.mark.parametrize("signed", [False, True])
@given(
    data=st.data(),
    query=queries,
    headers=headers,
    parts=st.lists(bodies, max_size=3),
    gone=st.booleans(),
    hidden=hiding_places,
)
@fast
def test_any_request_does_no_harm(
    path, method, signed, lines, raised, data, query, headers, parts, gone, hidden
):
    server.app.state.webhook_secret = "another" if signed else None
    if data.draw(st.integers(0, 4)) == 0:
        method = data.draw(methods)
    headers = [*headers, (hidden, SECRET.encode())]
    assert_harmless(*ask(method, path, query, headers, parts, gone), lines, raised)


ODD_BODIES = [
    rb'"\ud800"',
    rb'{"\ud800": "\udfff\n"}',
    b'"\xed\xa0\x80"',
    b'\xef\xbb\xbf{"bom": 1}',
    '{"a": 1}'.encode("utf-16"),
    b"[" * 100_000 + b"]" * 100_000,
    b"[" * 900 + b"]" * 900,
    b'{"a":' * 900 + b"1" + b"}" * 900,
    b"9" * 5000,
    b"-" + b"9" * 4300,
    b"[NaN, Infinity, -Infinity, 1e999]",
    b'{"__proto__": {}, "__class__": "x", "a": 1, "a": 2}',
    b'"{0.__class__} %s %(x)s ${jndi:ldap://example.com}"',
    b"",
]


def with_odd_bodies(test):
    for body in ODD_BODIES:
        test = example(body=body)(test)
    return test


@pytest.mark.parametrize("path", [path for path in WEBHOOKS if path != QUEUE])
@given(body=bodies)
@with_odd_bodies
@fast
def test_any_body_is_accepted_and_worked_on(path, body, lines, raised):
    server.app.state.webhook_secret = None
    lines.clear()
    status, content = ask("POST", path, parts=[body])
    assert (status, json.loads(content)) == (202, {"status": "Accepted"})
    assert lines[-1] == "--- Background webhook processing finished ---"
    assert_harmless(status, content, lines, raised)


def nested(deep):
    return [b"[" * deep + b"]" * deep, b'{"a":' * deep + b"1" + b"}" * deep]


@pytest.mark.parametrize("deep", range(500, 1050, 25))
def test_nesting_as_deep_as_the_stack_allows_does_no_harm(deep, lines, raised):
    server.app.state.webhook_secret = None
    for body in nested(deep):
        status, content = ask("POST", "/webhook-test", parts=[body])
        assert status == 202
        assert lines[-1] == "--- Background webhook processing finished ---"
        assert_harmless(status, content, lines, raised)


@pytest.mark.slow
@given(body=bodies)
@with_odd_bodies
@fast
def test_a_worker_finishes_any_body(body, queue, lines, raised):
    hand_over(body, queue, lines, raised)


@pytest.mark.slow
@pytest.mark.parametrize("deep", range(850, 1050, 10))
def test_nesting_does_not_end_a_worker(deep, queue, lines, raised):
    for body in nested(deep):
        hand_over(body, queue, lines, raised)


def hand_over(body, queue, lines, raised):
    server.app.state.webhook_secret = None
    before = queue.deliveries.tally().get("unnamed", 0)
    status, content = ask("POST", QUEUE, parts=[body])
    assert (status, json.loads(content)) == (202, {"status": "Accepted"})
    assert_harmless(status, content, lines, raised)
    until(lambda: queue.deliveries.tally().get("unnamed", 0) == before + 1)
    assert queue.deliveries.known("aside") == []
    assert not queue.workers[0].ended


@given(email=addresses)
@example(email="a@example.com\r\nBcc: b@example.com")
@example(email="a..b@example.com")
@example(email=".a.@example.com")
@example(email="-@-")
@example(email="%00@example.com")
@example(email="a" * 240 + "@example.com")
@example(email="a@" + ".".join(["b" * 60] * 4))
@fast
def test_any_address_is_refused_or_gets_its_mail(email, lines, raised, service):
    for path in ["/send-email", "/send-email/thread"]:
        service.messages.clear()
        status, content = ask("POST", path, f"email={quote_plus(email)}".encode())
        assert status in {200, 422}
        assert len(service.messages) == (status == 200)
        for message in service.messages:
            assert set(message.keys()) >= {"From", "To", "Subject"}
            assert "Bcc" not in message
            assert str(message["To"]) == email
        assert_harmless(status, content, lines, raised)


@pytest.mark.parametrize(("path", "method"), ENDPOINTS)
@pytest.mark.parametrize(
    "length", [str(LIMIT + 1), "9" * 5000, "-1", "1_000", "²", "x", "", "1e9", "0x10"]
)
def test_a_wrong_content_length_does_no_harm(path, method, length, lines, raised):
    value = length.encode("latin-1")
    status, content = ask(method, path, b"email=a@b", [("content-length", value)], [b"{}"])
    assert_harmless(status, content, lines, raised)


@pytest.mark.parametrize(("path", "method"), ENDPOINTS)
def test_an_endless_body_is_cut_off(path, method, lines, raised):
    parts = [b"x" * 65_536] * (LIMIT // 65_536 + 2)
    status, content = ask(method, path, b"email=a@b", parts=parts)
    assert status == (413 if path in WEBHOOKS else status)
    assert_harmless(status, content, lines, raised)


POST = b"POST /webhook-test HTTP/1.1\r\nHost: lab\r\n"
ON_THE_WIRE = {
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    "no host": b"POST /webhook-test HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
    "half a body": POST + b"Content-Length: 1000\r\n\r\n{",
    "half a head": POST + b"Content-Le",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "length and chunks": POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "half a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nff\r\n{}",
    "null in a header": POST + b"X-A: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
    "escape in the event": POST + b"X-GitHub-Event: \x1b[2J\xff\r\nContent-Length: 2\r\n\r\n{}",
    "a folded header": POST + b"X-A: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "a long header": POST + b"X-A: " + b"a" * 200_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
    "many headers": POST + b"X-A: a\r\n" * 5000 + b"Content-Length: 2\r\n\r\n{}",
    "a websocket": b"GET /webhook-test HTTP/1.1\r\nHost: lab\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n\r\n",
    "a proxy's request": b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n",
    "a path outside": b"GET /../../etc/passwd%00 HTTP/1.1\r\nHost: lab\r\n\r\n",
    "over the limit": POST + b"Content-Length: %d\r\n\r\n" % (LIMIT + 1) + b"x" * (LIMIT + 1),
}  # fmt: skip


@pytest.mark.parametrize("bytes_sent", ON_THE_WIRE.values(), ids=ON_THE_WIRE)
def test_raw_bytes_on_a_connection_do_no_harm(bytes_sent, web, lines, raised):
    server.app.state.webhook_secret = None
    lines.clear()
    host, _, port = web.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        try:
            connection.sendall(bytes_sent)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65_536)
        except TimeoutError:
            raise
        except OSError:  # the server has hung up: its right
            answer = b""
    status = int(answer.split()[1]) if answer else 400
    assert web.get("/ping").status == 200
    web.traces.wait(10)
    assert_harmless(status, answer, lines, raised)


@pytest.mark.parametrize("path", WEBHOOKS)
def test_chunks_over_the_limit_are_refused(path, web, lines, raised):
    server.app.state.webhook_secret = None
    trace = web.post(path, content=iter([b" " * 65_536] * (LIMIT // 65_536 + 1)))
    assert trace.status == 413 or trace.error  # or it hung up before all was sent
    assert trace.tasks == []
    assert_harmless(413, trace.body, lines, raised)
