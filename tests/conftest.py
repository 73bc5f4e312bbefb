"""Fixtures of all tests: a real redis-server, and names of a test's own on shared servers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.names import Names
from worker.embedded.redis_server import RedisServer

# Threads of one operation spin while they wait for each other: where brokers and workers share two
# cores with them, a second thread makes everything slower, a hundredfold at worst.
os.environ.setdefault("OMP_NUM_THREADS", "1")

MARKED_BY_FIXTURE = {
    "kafka_bootstrap": "kafka",
    "own_kafka": "kafka",
    "compose_kafka": "kafka",
    "redis_server": "redis",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by the servers they ask for, so that `-m "not kafka"` leaves the right ones."""
    for item in items:
        fixtures: list[str] = getattr(item, "fixturenames", [])
        for marker in {MARKED_BY_FIXTURE[name] for name in fixtures if name in MARKED_BY_FIXTURE}:
            item.add_marker(marker)


@pytest.fixture
def names() -> Names:
    """Names that no other test uses."""
    return Names.unused()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A redis-server for the whole run: the system's when there is one, else the demo's."""
    on_path = shutil.which("redis-server")
    server = RedisServer(
        tmp_path_factory.mktemp("redis"), binary=Path(on_path) if on_path else None
    )
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The URL of an empty Redis."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        client.script_flush()
    return redis_server.url
