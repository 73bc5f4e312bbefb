"""What the benchmarks send: the events of a simulated shop, and how they are sent and awaited."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.benchmarks.bench_servers import BenchServers
from tests.support.names import Names
from tests.support.shop_topics import ShopTopics
from tests.support.worker_process import WorkerProcess, worker_environment
from worker.embedded.shop.records import SimulatedEvent
from worker.embedded.shop.simulated_shop import SimulatedShop
from worker.events.event import EventKind

SHOPPERS = 2_000
PATIENCE_S = 900.0


class Workload:
    """A shop's catalogue and its shoppers' events, valid ones only; the same for equal counts.

    Products change within the events too, but what is measured are the shoppers' own.
    """

    def __init__(self, event_count: int) -> None:
        shop = SimulatedShop(shopper_count=SHOPPERS)
        self.catalogue: Sequence[SimulatedEvent] = list(shop.catalogue())
        chosen = (
            event for event in shop.events() if event.valid and event.kind is not EventKind.PRODUCT
        )
        self.events: Sequence[SimulatedEvent] = list(itertools.islice(chosen, event_count))


class Run:
    """One worker on topics and keys of its own."""

    def __init__(self, worker: WorkerProcess, shop: ShopTopics, names: Names) -> None:
        self.worker = worker
        self.shop = shop
        self.names = names

    def send(self, events: Sequence[SimulatedEvent]) -> None:
        """Produce events as fast as the broker takes them."""
        for event in events:
            self.shop.send_raw(event.kind, event.key, event.value)
        self.shop.flush()

    def finished(self) -> int:
        """Return how many events the worker has finished since its start."""
        if not self.worker.running:
            raise RuntimeError(f"the worker ended:\n{self.worker.log_text()[-3000:]}")
        samples = self.worker.metrics()
        return round(
            sum(value for name, value in samples.items() if name.startswith("shopstream_events_to"))
        )

    def wait_finished(self, count: int) -> float:
        """Return the time (of `time.monotonic`) at which `count` events were finished."""
        deadline = time.monotonic() + PATIENCE_S
        while self.finished() < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.finished()} of {count} events after {PATIENCE_S:.0f} s")
            time.sleep(0.1)
        return time.monotonic()

    def load_catalogue(self, catalogue: Sequence[SimulatedEvent]) -> None:
        """Send the products and wait until the worker's index holds them."""
        self.send(catalogue)
        while self.worker.metrics()["shopstream_products"] < len(catalogue):
            time.sleep(0.1)

    def rate(self, events: Sequence[SimulatedEvent]) -> float:
        """Send a backlog and return events per second from its first byte to its last commit."""
        before = self.finished()
        start = time.monotonic()
        self.send(events)
        return len(events) / (self.wait_finished(before + len(events)) - start)

    def stage_seconds(self) -> dict[str, tuple[float, float]]:
        """Return stage -> (seconds spent, batches), since the start of the worker."""
        samples = self.worker.metrics()
        name = "shopstream_stage_seconds"
        return {
            stage: (
                samples.get(f'{name}_sum{{stage="{stage}"}}', 0.0),
                samples.get(f'{name}_count{{stage="{stage}"}}', 0.0),
            )
            for stage in ("prepare", "gather", "encode", "conclude", "write", "send")
        }


@contextmanager
def running_worker(servers: BenchServers, **settings: str) -> Iterator[Run]:
    """Start a worker with four partitions a topic; OMP_NUM_THREADS follows the setting threads."""
    names = Names.unused()
    chosen = {
        "kafka_partitions": "4",
        "kafka_idempotent_producer": str(servers.idempotent).lower(),
        "log_level": "warning",
        **settings,
    }
    environment = worker_environment(
        names, servers.bootstrap_servers, servers.redis_url, **chosen
    ) | {"OMP_NUM_THREADS": settings.get("threads", "1")}
    worker = WorkerProcess(servers.folder, environment, names.unique)
    try:
        worker.wait_ready(PATIENCE_S)
        yield Run(worker, ShopTopics(servers.bootstrap_servers, names, linger_ms=0), names)
    finally:
        if worker.running:
            worker.terminate()
