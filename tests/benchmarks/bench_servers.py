"""Broker and Redis of a benchmark run: Apache Kafka where Java and Maven are, else the embedded."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.kafka_server import KafkaMissing, KafkaServer
from worker.embedded.broker import Broker
from worker.embedded.redis_server import RedisServer


@dataclass(frozen=True)
class BenchServers:
    """Where the servers are, and what they are."""

    bootstrap_servers: str
    redis_url: str
    broker: str
    idempotent: bool  # whether the broker gives producer ids
    folder: Path


@contextmanager
def bench_servers() -> Iterator[BenchServers]:
    """Start both servers in a folder of their own and end them with the block."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="shopstream-bench-")))
        (folder / "redis").mkdir()
        system = shutil.which("redis-server")
        redis = RedisServer(folder / "redis", binary=Path(system) if system else None)
        stack.callback(redis.stop)
        try:
            kafka = KafkaServer(folder)
        except KafkaMissing as missing:
            print(f"{missing}: the embedded broker is used", file=sys.stderr)
            broker = Broker(folder)
            stack.callback(broker.stop)
            yield BenchServers(broker.bootstrap_servers, redis.url, "Tansu", False, folder)
            return
        kafka.start()
        stack.callback(kafka.stop)
        yield BenchServers(kafka.bootstrap_servers, redis.url, "Apache Kafka", True, folder)
