"""Web, workers and broker are killed again and again: every accepted delivery has one effect.

CHAOS_ROUNDS sets how many rounds each broker gets; CHAOS_SEED the first round's number.
"""

import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest

from lab import Queue, Trace, delivery, serve

from ..brokers import KINDS, Broker, broker_of
from ..waiting import until

pytestmark = pytest.mark.slow

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "1"))
FIRST = int(os.environ.get("CHAOS_SEED", "1"))
EACH = 40


@pytest.mark.parametrize("seed", range(FIRST, FIRST + ROUNDS))
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_accepted_is_lost(kind: str, seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    with (
        broker_of(kind, tmp_path / "broker") as broker,
        Queue(workers=2, broker=broker.url, WORK_SECONDS=0.1) as queue,
    ):
        sent: dict[str, Trace] = {}
        for part in range(3):
            sent |= hand_over_and_die()
            kill_a_worker(queue, chance)
            if part == 1:
                restart(broker)
        for _ in range(3):
            kill_a_worker(queue, chance)
        accepted = {name for name, trace in sent.items() if trace.status == 202}
        effects = queue.effects

        def all_over() -> bool:
            for aside in effects.aside:  # it was at hand in each of three kills
                queue.replay(aside.delivery)
            return accepted <= effects.done

        until(all_over, timeout=180)
        starts = effects.starts
        counted = {
            "accepted": len(accepted),
            "effects": sum(effects.tally.values()),
            "starts": sum(starts.values()),
            "started again": sum(number > 1 for number in starts.values()),
        }
        print(kind, seed, Counter(trace.status for trace in sent.values()), counted)
        assert counted["accepted"] > EACH
        # Those that were refused, or whose answer was cut off, may have been done as well.
        assert counted["effects"] == len(effects.done)
        assert len(accepted) <= counted["effects"] <= len(sent)
        assert counted["starts"] >= counted["accepted"]
        assert accepted <= effects.done


def hand_over_and_die() -> dict[str, Trace]:
    """Send deliveries to a server that is killed once it has answered the last of them."""
    web = serve("server:app", on="process")
    deliveries = [delivery("push") for _ in range(EACH)]
    traces = web.burst("/webhook-test/queue", deliveries, at_once=8)
    web.signal(signal.SIGKILL)
    web.join()
    names = (sent["headers"]["X-GitHub-Delivery"] for sent in deliveries)
    return dict(zip(names, traces, strict=True))


def kill_a_worker(queue: Queue, chance: random.Random) -> None:
    """Kill one in mid-work, and start another in its place."""
    worker = queue.workers.pop(chance.randrange(len(queue.workers)))
    begun = sum(queue.effects.starts.values())
    until(lambda: sum(queue.effects.starts.values()) > begun, timeout=30)
    worker.kill()
    queue.add_workers(1)


def restart(broker: Broker) -> None:
    broker.kill()
    broker.start()
