"""Work for a pool of processes: a pool can run only functions that it can import."""

from __future__ import annotations


def crunch(rounds: int = 2_000_000) -> int:
    """Keep a processor busy with pure Python, which holds the interpreter's lock."""
    total = 0
    for number in range(rounds):
        total += number * number % 7
    return total
