"""A redis-server of the test's own, with any options: cluster, Sentinel, password, memory."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from worker.embedded.ports import LOOPBACK, free_ports
from worker.embedded.redis_server import packaged_redis_server

START_TIMEOUT_S = 10.0


@contextmanager
def redis_process(folder: Path, *options: str, first: str = "", port: int = 0) -> Iterator[int]:
    """Run redis-server until the block ends and yield its port; `first` is a configuration file."""
    port = port or free_ports(1)[0]
    common = ["--bind", LOOPBACK, "--port", str(port), "--dir", str(folder), "--save", ""]
    with (folder / f"redis-{port}.log").open("ab") as log:
        process = subprocess.Popen(
            [packaged_redis_server(), *([first] if first else []), *common, *options],
            stdout=log,
            stderr=log,
        )
        try:
            _wait_ready(port)
            yield port
        finally:
            process.terminate()
            process.wait(timeout=10)


def _wait_ready(port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with redis.Redis(host=LOOPBACK, port=port) as client:
                client.ping()
                return
        except redis.AuthenticationError:
            return
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
