"""The threads that a process still has when it ends."""

from __future__ import annotations

import atexit
from pathlib import Path


def write_threads_at_exit(path: str) -> None:
    """Write the names of this process's threads to a file after what is registered later to end."""
    atexit.register(_write, Path(path))


def _write(path: Path) -> None:
    tasks = Path("/proc/self/task").iterdir()
    path.write_text("\n".join((task / "comm").read_text().strip() for task in tasks))
