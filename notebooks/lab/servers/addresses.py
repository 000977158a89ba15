"""Addresses of this host at which servers listen, and where they are reached."""

from __future__ import annotations

import socket


def loopback() -> str:
    """Return this host's own address: 127.0.0.1, or ::1 where there is IPv6 alone."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", 0))
        except OSError:
            return "::1"
    return "127.0.0.1"


def family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def url_of(host: str, port: int) -> str:
    """Return where a server that listens on an address, or on all, is reached from here."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def free_port() -> int:
    """Return a port of this host on which nothing listens now."""
    with socket.socket(family_of(host := loopback())) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
