"""Fixtures of the tests that run whole workers: the shop, its workers, a storefront."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.names import Names
from tests.support.shop_topics import ShopTopics
from tests.support.worker_process import StartWorker, WorkerProcess, worker_environment
from worker.store.lookup import Lookup


@pytest.fixture
def shop(kafka_bootstrap: str, names: Names) -> ShopTopics:
    """The shop's side of this test's topics."""
    return ShopTopics(kafka_bootstrap, names)


@pytest.fixture
def start_worker(
    kafka_bootstrap: str, redis_url: str, names: Names, tmp_path: Path
) -> Iterator[StartWorker]:
    """Start workers of this test's group; what still runs at the end is killed."""
    workers: list[WorkerProcess] = []

    def start(**settings: str) -> WorkerProcess:
        environment = worker_environment(names, kafka_bootstrap, redis_url, **settings)
        workers.append(WorkerProcess(tmp_path, environment, f"worker-{len(workers)}"))
        return workers[-1]

    yield start
    for worker in workers:
        if worker.running:
            worker.kill()


@pytest.fixture
def lookup(redis_url: str, names: Names) -> Iterator[Lookup]:
    """A storefront's client on this test's keys."""
    with Lookup(redis_url, prefix=names.key_prefix) as client:
        yield client
