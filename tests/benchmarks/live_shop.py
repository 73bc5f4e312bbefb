"""A worker on embedded servers, and what a shop does with it: send files, wait, read results."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.worker_process import WorkerProcess
from worker.embedded.servers import EmbeddedServers
from worker.events.column_map import ColumnMap
from worker.events.event import EventKind
from worker.settings import Settings
from worker.store.lookup import Lookup
from worker.topics.produce import ProduceJob, ProduceReport, produce

START_PATIENCE_S = 600.0  # loading torch takes minutes on a machine that does much else
MAPS = Path(__file__).resolve().parents[2] / "docs" / "maps"


class LiveShop:
    """A worker on embedded servers, and what a shop does with it."""

    def __init__(self, folder: Path, servers: EmbeddedServers, worker: WorkerProcess) -> None:
        self.folder = folder
        self.worker = worker
        self.settings = Settings(
            kafka_bootstrap_servers=servers.bootstrap_servers,
            redis_url=servers.redis_url,
            kafka_idempotent_producer=False,
        )
        self.lookup = Lookup(servers.redis_url)
        self.sent = 0

    def send(self, file: Path, kind: EventKind, map_name: str | None = None) -> None:
        """Produce a file and wait until the worker has finished all of it."""
        column_map = ColumnMap.load(MAPS / f"{map_name}.toml") if map_name else None
        report = ProduceReport()
        job = ProduceJob((file,), kind, column_map)
        asyncio.run(produce(self.settings, job, report))
        print(f"{file.name}: {report.sent:,} sent, {report.bad:,} bad rows", file=sys.stderr)
        self.sent += report.sent
        self._wait(lambda: self.finished() >= self.sent)

    def send_rows(self, rows: list[dict[str, Any]], kind: EventKind) -> None:
        """Produce event objects and wait until the worker has finished them."""
        file = self.folder / f"{kind.value}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self.send(file, kind)

    def finished(self) -> int:
        """Return how many events the worker has confirmed."""
        return sum(
            int(value)
            for name, value in self.worker.metrics().items()
            if name.startswith("shopstream_events_total")
        )

    def _wait(self, done: Callable[[], bool]) -> None:
        shown_s = time.monotonic()
        while not done():
            if not self.worker.running:
                raise SystemExit(f"the worker ended:\n{self.worker.log_text()[-2000:]}")
            if time.monotonic() - shown_s > 20:
                shown_s = time.monotonic()
                print(f"{self.finished():,} of {self.sent:,} events done", file=sys.stderr)
            time.sleep(0.25)


@contextmanager
def live_shop(**settings: str) -> Iterator[LiveShop]:
    """Start servers and a worker, and stop them at the end."""
    with EmbeddedServers() as servers, tempfile.TemporaryDirectory() as folder:
        environment = {f"SHOPSTREAM_{name.upper()}": value for name, value in settings.items()}
        worker = WorkerProcess(
            Path(folder), {**servers.environment(), "OMP_NUM_THREADS": "2", **environment}
        )
        try:
            worker.wait_ready(START_PATIENCE_S)
            yield LiveShop(Path(folder), servers, worker)
            worker.terminate()
        finally:
            if worker.running:
                worker.kill()
