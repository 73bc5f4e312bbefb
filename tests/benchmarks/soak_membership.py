"""Soak of the consumer side: workers come, go, die and freeze while events flow; who was lost?

    python tests/benchmarks/soak_membership.py [--seconds 60] [--rate 6000] [--broker-restarts]

Starts Apache Kafka and a redis-server of its own. An observer compares the committed offsets with
the counters twice a second: an event below a commit that nobody counted is lost. Prints one JSON
line a figure on standard output.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY))

from tests.support.admin import create_topics  # noqa: E402
from tests.support.counting import CountingGroup, CountingWorker, counting_group  # noqa: E402
from tests.support.kafka_server import KafkaServer  # noqa: E402
from worker.embedded.redis_server import RedisServer  # noqa: E402

TOPICS = ("soak.searches", "soak.purchases", "soak.reviews")
OBSERVE_S = 0.5
ZOMBIE_S = 10.0


class Observer(threading.Thread):
    """Looks for events below a commit that nobody counted, and for commits that went back."""

    def __init__(self, group: CountingGroup) -> None:
        super().__init__(daemon=True)
        self._group = group
        self._last: dict[tuple[str, int], int] = {}
        self.ending = threading.Event()
        self.worst = 0
        self.went_back = 0
        self.looks = 0

    def run(self) -> None:
        while not self.ending.wait(OBSERVE_S):
            try:
                committed = self._group.committed()
            except Exception:  # the broker restarts
                continue
            self.worst = max(self.worst, self._group.uncounted_below(committed))
            self.went_back += sum(at < self._last.get(name, 0) for name, at in committed.items())
            self._last = {**self._last, **committed}
            self.looks += 1


def produce(group: CountingGroup, rate: int, ending: threading.Event) -> None:
    """Send at `rate` events/s over all topics until told to end."""
    began, sent = time.monotonic(), 0
    while not ending.wait(0.05):
        due = int((time.monotonic() - began) * rate / len(TOPICS)) - sent
        group.produce(due)
        sent += due


def change_members(group: CountingGroup, seconds: float) -> list[int]:
    """Start 8 workers, stop 3, kill 2, freeze 1 for a while; return the statuses of the stopped."""
    step = seconds / 14
    workers: list[CountingWorker] = []
    statuses: list[int] = []

    def start() -> None:
        workers.append(group.start())
        time.sleep(step)

    def stop() -> None:
        statuses.append(workers.pop(0).stop())
        time.sleep(step)

    def kill() -> None:
        workers.pop(0).kill()
        time.sleep(step)

    for act in (start, start, start, stop, start, kill, start, start, stop):
        act()
    zombie = workers[0]
    zombie.send(signal.SIGSTOP)
    time.sleep(ZOMBIE_S)
    zombie.send(signal.SIGCONT)
    for act in (start, kill, start, stop):
        act()
    time.sleep(step)
    return statuses


def soak(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Run the soak and return its figures."""
    kafka, redis_server = KafkaServer(folder), RedisServer(folder)
    kafka.start()
    create_topics(kafka.bootstrap_servers, TOPICS, partitions=4)
    with counting_group(
        bootstrap_servers=kafka.bootstrap_servers,
        redis_url=redis_server.url,
        prefix="soak",
        topics=TOPICS,
        folder=folder,
    ) as group:
        observer, ending = Observer(group), threading.Event()
        observer.start()
        producer = threading.Thread(target=produce, args=(group, arguments.rate, ending))
        producer.start()
        statuses = change_members(group, arguments.seconds)
        if arguments.broker_restarts:
            kafka.restart()
            time.sleep(5)
            kafka.kill()
            kafka.start()
        ending.set()
        producer.join()
        group.wait_all_counted()
        group.wait_all_committed()
        observer.ending.set()
        observer.join()
        for worker in group.workers:
            if worker.running:
                statuses.append(worker.stop())
        figures = {
            "events": sum(group.produced.values()),
            "lost": group.missing(),
            "duplicates": group.duplicates(),
            "uncounted_below_commits": observer.worst,
            "commits_that_went_back": observer.went_back,
            "observations": observer.looks,
            "unclean_stops": sum(map(bool, statuses)),
        }
    kafka.kill()
    redis_server.stop()
    return figures


def main() -> None:
    """Run and print the figures; status 1 when events were lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=6_000, help="events a second")
    parser.add_argument("--broker-restarts", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder for the logs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        figures = soak(arguments, folder)
    for name, value in figures.items():
        print(json.dumps({"figure": f"membership_{name}", "value": value}))
    sys.exit(1 if figures["lost"] or figures["uncounted_below_commits"] else 0)


if __name__ == "__main__":
    main()
