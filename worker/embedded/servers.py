"""Broker and Redis together, as the demo and the benchmarks need them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from worker.embedded.broker import Broker
from worker.embedded.guarded_process import ServerEnded
from worker.embedded.redis_server import RedisServer

START_TRIES = 3

Server = TypeVar("Server", Broker, RedisServer)


class EmbeddedServers:
    """A Kafka-compatible broker and a redis-server on free loopback ports, in memory only.

    A context manager; `start` and `stop` serve those who cannot use one. Both servers end, and
    their folder goes, with `stop` and also when this process is killed. Starting blocks for half a
    second (`asyncio.to_thread` where a loop must not stand). Raises `EmbeddedUnavailable`.
    With a `folder` of the caller's, their logs stand there and stay.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._kept_folder = folder
        self._folder: Path | None = None
        self._broker: Broker | None = None
        self._redis: RedisServer | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The broker's `host:port`."""
        return self._started(self._broker).bootstrap_servers

    @property
    def redis_url(self) -> str:
        """The URL of the redis-server."""
        return self._started(self._redis).url

    def environment(self) -> dict[str, str]:
        """Return the variables that point a worker or a command at these servers."""
        return {
            "SHOPSTREAM_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "SHOPSTREAM_REDIS_URL": self.redis_url,
            # The embedded broker gives no producer ids.
            "SHOPSTREAM_KAFKA_IDEMPOTENT_PRODUCER": "false",
        }

    def start(self) -> None:
        """Start both and return once they answer."""
        if self._kept_folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="shopstream-"))
        folder = self._kept_folder or self._folder
        assert folder is not None
        try:
            self._redis = _start(RedisServer, folder, self._folder)
            self._broker = _start(Broker, folder, self._folder)
        except BaseException:
            self.stop()
            raise

    def check_running(self) -> None:
        """Raise `EmbeddedUnavailable` when one of the servers has ended."""
        self._started(self._broker).process.check_running()
        self._started(self._redis).process.check_running()

    def stop(self) -> None:
        """End both servers and remove their folder; again is harmless."""
        for server in (self._broker, self._redis):
            if server is not None:
                server.stop()
        self._broker = self._redis = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    @staticmethod
    def _started(server: Server | None) -> Server:
        if server is None:
            raise RuntimeError("EmbeddedServers is not started")
        return server

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _start(make: Callable[..., Server], folder: Path, remove_folder: Path | None) -> Server:
    """Start a server that chooses its own port, again when another process took the port first."""
    for _ in range(START_TRIES - 1):
        try:
            return make(folder, remove_folder=remove_folder)
        except ServerEnded:
            continue
    return make(folder, remove_folder=remove_folder)
