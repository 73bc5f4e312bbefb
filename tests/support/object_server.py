"""A server of an object store with a bucket `shop`, in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.request import urlopen

from worker.embedded.guarded_process import GuardedProcess

START_TIMEOUT_S = 90.0


class ObjectServer:
    """One server; a subclass knows its command, and what its clients need to be told."""

    scheme: str  # of its URLs

    def __init__(self, name: str, command: Sequence[str], endpoint: str, ready: str, log: Path):
        """Start the command and return once `endpoint` answers the path `ready`."""
        self.endpoint, self._ready = endpoint, ready
        self._process = GuardedProcess(name, command, log_path=log, stop_s=10.0)
        try:
            self._process.wait_ready(self._answers, START_TIMEOUT_S)
        except BaseException:
            self._process.kill()
            raise

    @staticmethod
    def at(endpoint: str) -> dict[str, str]:
        """Return the environment that leads clients to an endpoint."""
        raise NotImplementedError

    @property
    def environment(self) -> dict[str, str]:
        """What clients of this server need to be told."""
        return self.at(self.endpoint)

    def stop(self) -> None:
        """End it."""
        self._process.stop()

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.endpoint}{self._ready}", timeout=2):
                return True
        except OSError:
            return False
