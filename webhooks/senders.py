"""Whose deliveries are accepted: a function for each sender says whether one is signed."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping

Sender = Callable[[Mapping[str, str], bytes, str], bool]

_senders: list[Sender] = []


def sender(signed: Sender) -> Sender:
    """Add a sender: a function that returns whether the sender has signed a delivery.

    It is given the headers by lower-case name, the bytes that came, and the secret.
    """
    _senders.append(signed)
    return signed


def signed(headers: Mapping[str, str], content: bytes, secret: str) -> bool:
    """Return whether one of the senders has signed a delivery."""
    return any(its(headers, content, secret) for its in _senders)


def same(one: str, other: str) -> bool:
    """Return whether two texts are the same, in a time that says nothing of where they differ."""
    # As bytes: compare_digest raises on a str that is not ASCII.
    return hmac.compare_digest(one.encode(), other.encode())


@sender
def github(headers: Mapping[str, str], content: bytes, secret: str) -> bool:
    digest = hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()
    return same(headers.get("x-hub-signature-256", ""), f"sha256={digest}")
