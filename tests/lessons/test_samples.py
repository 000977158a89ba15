"""Sample deliveries: whole, signed, and each under an id of its own."""

import hashlib
import hmac
import json
import subprocess
import sys
import uuid

import pytest

from lab import delivery
from lab.lessons.samples import FOLDER, TEST_SECRET

NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def test_all_sample_deliveries_exist():
    assert {"push", "pull_request", "issues", "ping", "push_large"} <= set(NAMES)
    assert 80_000 < len(delivery("push_large")["content"]) < 120_000


@pytest.mark.parametrize("name", NAMES)
def test_both_signatures_match_the_bytes_that_are_sent(name):
    sent = delivery(name)
    for header, digest in [("X-Hub-Signature-256", "sha256"), ("X-Hub-Signature", "sha1")]:
        expected = hmac.new(TEST_SECRET.encode(), sent["content"], getattr(hashlib, digest))
        assert sent["headers"][header] == f"{digest}={expected.hexdigest()}"


@pytest.mark.parametrize("name", NAMES)
def test_body_is_the_stored_one_and_headers_are_those_of_github(name):
    stored = json.loads((FOLDER / f"{name}.json").read_bytes())
    sent = delivery(name)
    assert json.loads(sent["content"]) == stored["body"]
    assert b"\n" not in sent["content"]
    assert sent["headers"] | {"X-GitHub-Delivery": ""} == stored["headers"] | {
        "X-GitHub-Delivery": ""
    }
    assert name.startswith(sent["headers"]["X-GitHub-Event"])
    assert sent["headers"]["User-Agent"].startswith("GitHub-Hookshot/")


def test_each_delivery_has_a_new_id():
    ids = [delivery("push")["headers"]["X-GitHub-Delivery"] for _ in range(50)]
    assert len({uuid.UUID(each) for each in ids}) == 50


def test_an_unknown_name_raises_and_lists_the_known_ones():
    with pytest.raises(
        ValueError, match=r"'pul_request' among .*push.*did you mean 'pull_request'"
    ):
        delivery("pul_request")
    with pytest.raises(ValueError, match=r"issues, ping, pull_request, push, push_large$"):
        delivery("../../server")


def test_deliveries_are_found_from_any_folder(tmp_path):
    code = "from lab import delivery; print(len(delivery('ping')['content']))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == len(delivery("ping")["content"])
