"""Counting workers as processes, the events they read, and what they counted in Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import redis
from confluent_kafka import Producer

from tests.support.admin import committed_offsets

REPOSITORY = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("counting_worker.py")
PATIENCE_S = 60.0  # never the expected time: only how long a test waits before it gives up


def wait_until(holds: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Return once `holds()` does; raise AssertionError naming `what` after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < end, f"waited {timeout_s:.0f} s in vain: {what}"
        time.sleep(0.05)


class CountingWorker:
    """One worker process; its output goes to a file."""

    def __init__(self, topics: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, str(WORKER), *topics],
                env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def output(self) -> str:
        """Return all it has written so far."""
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        """Return once `text` stands in its output; fail at once when it has ended without."""
        wait_until(lambda: text in self.output() or not self.running, f"{text!r} in {self.log}")
        assert text in self.output(), self.output()

    def assignment(self) -> set[str]:
        """Return what it was assigned last, as `topic/partition`; empty after a revocation."""
        lines = [line for line in self.output().splitlines() if line.startswith(("ASSI", "REVO"))]
        return set(lines[-1].split()[1:]) if lines and lines[-1].startswith("ASSI") else set()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()
        self._process.wait()

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Return its exit status."""
        return self._process.wait(timeout_s)

    def stop(self) -> int:
        """End it by SIGTERM and return its exit status."""
        self.send(signal.SIGTERM)
        return self.wait()

    def resident_bytes(self) -> int:
        """Return its resident memory now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


class CountingGroup:
    """Workers of one consumer group on topics of 4 partitions, and their counts."""

    def __init__(
        self,
        *,
        bootstrap_servers: str,
        redis_url: str,
        prefix: str,
        topics: Sequence[str],
        folder: Path,
        partitions: int = 4,
        **settings: str,
    ) -> None:
        self.topics = list(topics)
        self.bootstrap_servers = bootstrap_servers
        self.group = f"{prefix}-group"
        self.partitions = partitions
        self.workers: list[CountingWorker] = []
        self.produced: Counter[tuple[str, int]] = Counter()
        self._prefix = prefix
        self._redis = redis.Redis.from_url(redis_url)
        self._folder = folder
        self._producer = Producer(
            {"bootstrap.servers": bootstrap_servers, "linger.ms": 5, "log_level": 0}
        )
        self._environment = {
            "SHOPSTREAM_KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers,
            "SHOPSTREAM_REDIS_URL": redis_url,
            "SHOPSTREAM_REDIS_KEY_PREFIX": prefix,
            "SHOPSTREAM_KAFKA_GROUP": self.group,
            "SHOPSTREAM_KAFKA_SESSION_TIMEOUT_S": "6",
            "SHOPSTREAM_DRAIN_TIMEOUT_S": "3",
            **settings,
        }

    def start(self, **environment: str) -> CountingWorker:
        """Start a worker, with more environment variables."""
        log = self._folder / f"worker{len(self.workers)}.log"
        worker = CountingWorker(self.topics, {**self._environment, **environment}, log)
        self.workers.append(worker)
        return worker

    def produce(self, count: int, partitions: Sequence[int] | None = None) -> None:
        """Send `count` events to every topic in turn, spread over `partitions`."""
        spread = list(range(self.partitions)) if partitions is None else list(partitions)
        for number in range(count):
            for topic in self.topics:
                partition = spread[number % len(spread)]
                while True:
                    try:
                        self._producer.produce(topic, b'{"n":%d}' % number, partition=partition)
                        break
                    except BufferError:
                        self._producer.poll(0.1)
                self.produced[topic, partition] += 1
        self._producer.flush()

    def counts(self, topic: str, partition: int) -> bytes:
        """Return how often each offset was counted."""
        found = self._redis.get(f"{self._prefix}:counts:{topic}:{partition}") or b""
        assert isinstance(found, bytes)
        return found

    def _by_partition(self) -> Iterator[tuple[int, bytes]]:
        for (topic, partition), sent in self.produced.items():
            yield sent, self.counts(topic, partition)

    def missing(self) -> int:
        """Return how many sent events nobody counted (yet)."""
        return sum(sent - sum(map(bool, counts)) for sent, counts in self._by_partition())

    def duplicates(self) -> int:
        """Return how many counts there are beyond one an event."""
        return sum(sum(counts) - sum(map(bool, counts)) for _, counts in self._by_partition())

    def committed(self) -> dict[tuple[str, int], int]:
        """Return the group's committed offsets, without partitions that have none."""
        found = committed_offsets(self.bootstrap_servers, self.group)
        return {name: offset for name, offset in found.items() if offset >= 0}

    def uncounted_below(self, committed: Mapping[tuple[str, int], int]) -> int:
        """Return how many events lie below a committed offset and were never counted: lost."""
        lost = 0
        for (topic, partition), offset in committed.items():
            lost += offset - sum(map(bool, self.counts(topic, partition)[:offset]))
        return lost

    def wait_all_counted(self) -> None:
        wait_until(lambda: self.missing() == 0, "all events counted")

    def wait_all_committed(self) -> None:
        wait_until(lambda: self.committed() == dict(self.produced), "all events committed")

    def wait_shared(self, *workers: CountingWorker) -> None:
        """Return once the workers hold all partitions between them, each some."""
        every = {f"{topic}/{n}" for topic in self.topics for n in range(self.partitions)}

        def shared() -> bool:
            held = [worker.assignment() for worker in workers]
            return all(held) and sum(map(len, held)) == len(every) and set().union(*held) == every

        wait_until(shared, "the partitions shared among the workers")


@contextmanager
def counting_group(**options: object) -> Iterator[CountingGroup]:
    """A group whose processes are gone at the end, however the test ends."""
    group = CountingGroup(**options)  # type: ignore[arg-type]
    try:
        yield group
    finally:
        for worker in group.workers:
            if worker.running:
                worker.kill()
