"""From the moment an event is handed to the producer to the moment Redis announces its result."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import redis

from tests.benchmarks.workload import Run
from worker.embedded.shop.records import SimulatedEvent
from worker.events.event import EventKind
from worker.store.keys import Keys

# Kinds whose result stands under an id of the event's own, by the name of the result.
_RESULT = {EventKind.SEARCH: "search", EventKind.REVIEW: "tags", EventKind.QUESTION: "answer"}
_LAST_WAIT_S = 30.0


class _Listener(threading.Thread):
    """Notes when each result is announced."""

    def __init__(self, url: str, prefix: str) -> None:
        super().__init__(daemon=True)
        self.seen: dict[str, float] = {}
        self.done = False
        self._prefix = f"{prefix}:written:"
        self._pubsub = redis.Redis.from_url(url).pubsub(ignore_subscribe_messages=True)
        self._pubsub.psubscribe(f"{Keys(prefix).prefix}:written:*")

    def run(self) -> None:
        while not self.done:
            message = self._pubsub.get_message(timeout=0.2)
            if message is not None:
                channel = message["channel"].decode().removeprefix(self._prefix)
                self.seen.setdefault(channel, time.monotonic())
        self._pubsub.close()


def measure_latencies(
    run: Run, redis_url: str, events: Sequence[SimulatedEvent], rate: float
) -> list[float]:
    """Send events at a steady rate (events/s); return the seconds until each one's result."""
    return [latency_s for _, latency_s in timed_latencies(run, redis_url, events, rate)]


def timed_latencies(
    run: Run, redis_url: str, events: Sequence[SimulatedEvent], rate: float
) -> list[tuple[float, float]]:
    """As `measure_latencies`, each with the time (of `time.monotonic`) at which it was sent."""
    listener = _Listener(redis_url, run.names.key_prefix)
    listener.start()
    sent: dict[str, float] = {}
    start = time.monotonic()
    for number, event in enumerate(events):
        wait_s = start + number / rate - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        if event.kind in _RESULT:
            sent[f"{_RESULT[event.kind]}:{event.result_id}"] = time.monotonic()
        run.shop.send_raw(event.kind, event.key, event.value)
    run.shop.flush()
    deadline = time.monotonic() + _LAST_WAIT_S
    while len(listener.seen.keys() & sent.keys()) < len(sent):
        if time.monotonic() > deadline:
            missing = sorted(sent.keys() - listener.seen.keys())
            raise TimeoutError(f"{len(missing)} results never came, such as {missing[:3]}")
        time.sleep(0.05)
    listener.done = True
    listener.join()
    return [(at, listener.seen[channel] - at) for channel, at in sent.items()]
