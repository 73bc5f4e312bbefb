"""A server process that ends with the one that started it, and a clear sentence when it fails."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

GUARD = Path(__file__).with_name("guard.py")
LOG_TAIL_BYTES = 4_000
LOG_TAIL_LINES = 5
GIVE_WAY_TRIES = 3
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class EmbeddedUnavailable(Exception):
    """A server of the demo is missing, did not start or ended; the message says what to do."""


class ServerEnded(EmbeddedUnavailable):
    """A server ended while it started, as it does when another process took its port first."""


class GuardedProcess:
    """One server under a guard (see `guard`), its output in `log_path`.

    The guard is in a session of its own: a Ctrl-C at the terminal reaches the starter alone, which
    then ends its servers in the right order.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log_path: Path,
        environment: Mapping[str, str] | None = None,
        remove_folder: Path | None = None,
        stop_s: float = 5.0,
        niceness: int = 0,
    ) -> None:
        """Start it; `niceness` lets the session of guard and server give way to all others."""
        self.name = name
        self.log_path = log_path
        self._stop_s = stop_s
        folder = str(remove_folder) if remove_folder else ""
        with log_path.open("ab") as log:
            # -I -S: starts in ~20 ms and takes nothing from the starter's paths
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", GUARD, str(stop_s), folder, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        assert self._guard.stdout is not None
        line = self._guard.stdout.readline()
        if not line:
            self.stop()
            raise EmbeddedUnavailable(f"{name} could not be started: {self.log_tail()}")
        self.pid = int(line)
        if niceness:
            _give_way(self._guard.pid, niceness)

    @property
    def running(self) -> bool:
        """Whether the server still runs."""
        return self._guard.poll() is None

    @property
    def status(self) -> int | None:
        """The server's exit status (128 + a signal); None while it runs."""
        return self._guard.poll()

    def wait_ready(self, answers: Callable[[], bool], timeout_s: float) -> None:
        """Return once `answers()`; raises `EmbeddedUnavailable` at its end or after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not answers():
            if not self.running:
                raise ServerEnded(f"{self.name} ended while it started: {self.log_tail()}")
            if time.monotonic() > deadline:
                raise EmbeddedUnavailable(
                    f"{self.name} did not answer within {timeout_s:g} s: {self.log_tail()}"
                )
            time.sleep(0.05)
        # another process may hold the port and be the one that answers: ours then ends at once
        time.sleep(0.1)
        if not self.running:
            raise ServerEnded(f"{self.name} ended while it started: {self.log_tail()}")

    def check_running(self) -> None:
        """Raise `EmbeddedUnavailable` when the server has ended."""
        if not self.running:
            raise EmbeddedUnavailable(f"{self.name} ended unexpectedly: {self.log_tail()}")

    def stop(self) -> None:
        """End the server (SIGTERM, SIGKILL after `stop_s`) and wait for it; again is harmless."""
        stdin, stdout = self._guard.stdin, self._guard.stdout
        assert stdin is not None
        assert stdout is not None
        if not stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                stdin.write(b"stop")
                stdin.close()
        stdout.close()
        self._guard.wait(self._stop_s + 10.0)

    def kill(self) -> None:
        """End the server by SIGKILL, as a crash would, and wait for it."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def log_tail(self, count: int = LOG_TAIL_LINES) -> str:
        """Return the last lines the server wrote, on one line."""
        text = self.log_path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        lines = [line.strip() for line in COLOUR.sub("", text).splitlines() if line.strip()]
        return " | ".join(lines[-count:]) or "it wrote nothing"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _give_way(pid: int, niceness: int) -> None:
    """Let a process's session have less of the processor beside other sessions.

    Where Linux schedules by sessions (autogroup) a process's own niceness counts within its session
    only. The kernel takes such a change every tenth of a second.
    """
    for _ in range(GIVE_WAY_TRIES):
        try:
            Path(f"/proc/{pid}/autogroup").write_text(str(niceness), encoding="ascii")
            return
        except BlockingIOError:
            time.sleep(0.1)
        except OSError:  # no Linux, or scheduled by processes: their own niceness counts
            return
