"""The command `shopstream worker` as a process of its own, with settings in its environment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.names import Names
from worker.embedded.ports import LOOPBACK, free_ports

START_TIMEOUT_S = 90.0
COMMAND = [sys.executable, "-m", "worker.commands", "worker"]


def worker_environment(
    names: Names, bootstrap_servers: str, redis_url: str, /, **settings: str
) -> dict[str, str]:
    """Return the variables of a quick worker: null model, short sessions, frequent commits.

    `settings` are names without prefix, in lower case.
    """
    chosen = {
        "kafka_bootstrap_servers": bootstrap_servers,
        "redis_url": redis_url,
        "model": "null",
        "kafka_session_timeout_s": "6",
        "drain_timeout_s": "4",
        "kafka_commit_interval_s": "0.25",
        "kafka_partitions": "2",
        **settings,
    }
    return names.environment() | {
        f"SHOPSTREAM_{name.upper()}": value for name, value in chosen.items()
    }


class WorkerProcess:
    """One worker; its log is the file `log`."""

    def __init__(self, folder: Path, environment: Mapping[str, str], name: str = "worker") -> None:
        self.port = free_ports(1)[0]
        self.log = folder / f"{name}.log"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SHOPSTREAM_")}
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                COMMAND,
                stdout=log,
                stderr=log,
                env={
                    **inherited,
                    "OMP_NUM_THREADS": "1",
                    **environment,
                    "SHOPSTREAM_METRICS_PORT": str(self.port),
                },
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when the worker is healthy: partitions assigned, products loaded."""
        deadline = time.monotonic() + timeout_s
        while not self.health()[0]:
            if not self.running or time.monotonic() > deadline:
                raise AssertionError(f"the worker did not get ready:\n{self.log_text()}")
            time.sleep(0.1)

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Return whether /health says 200, and its document (empty: no answer)."""
        try:
            with urllib.request.urlopen(self._url("health"), timeout=5) as response:
                return True, json.load(response)
        except urllib.error.HTTPError as error:
            return False, json.load(error)
        except OSError:
            return False, {}

    def metrics(self) -> dict[str, float]:
        """Return every sample of /metrics by name with labels, as exported."""
        with urllib.request.urlopen(self._url("metrics"), timeout=30) as response:
            lines = response.read().decode().splitlines()
        samples = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def terminate(self, timeout_s: float = 30.0) -> int:
        """Send SIGTERM and return the exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """Send SIGKILL, as a crash would, and wait for the end."""
        self._process.kill()
        self._process.wait(10)

    def pause(self) -> None:
        """Send SIGSTOP: the group takes the worker for dead, and it knows nothing of that."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def wait(self, timeout_s: float = 30.0) -> int:
        """Return the exit status once the process has ended."""
        return self._process.wait(timeout_s)

    def log_text(self) -> str:
        """Return the log so far."""
        return self.log.read_text(errors="replace")

    def _url(self, path: str) -> str:
        return f"http://{LOOPBACK}:{self.port}/{path}"


StartWorker = Callable[..., WorkerProcess]
"""What the fixture `start_worker` gives: settings by name in lower case -> a started worker."""
