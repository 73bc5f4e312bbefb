"""A replay killed with SIGKILL, run again: it ends as if nothing had been."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_run import LiveRun

EVENTS = 3_000  # of which the journal keeps 256 batches a frame
MEASURED = ("results_digest", "recommendations", "search", "sentiment", "answers", "off_policy")
WAIT_S = 120.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded live run, with crashes and races, long enough to be killed in the middle of."""
    live = LiveRun(tmp_path_factory.mktemp("recording") / "r")
    asyncio.run(live.run(seed=3, count=EVENTS))
    return live.folder


def start(folder: Path, order: str, journal: Path) -> subprocess.Popen[str]:
    """Start the command as a person would."""
    command = [sys.executable, "-m", "worker.commands", "replay", "--events", str(folder)]
    command += ["--order", order, "--release", "same=current", "--journal", str(journal), "--json"]
    return subprocess.Popen(
        command,
        env={**os.environ, "SHOPSTREAM_MODEL": "null"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for the command's document."""
    output, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, errors
    document: dict[str, Any] = json.loads(output)
    return document


@pytest.mark.parametrize("order", ["time", "batches"])
def test_a_replay_killed_in_the_middle_ends_as_one_that_was_not(
    folder: Path, tmp_path: Path, order: str
) -> None:
    """After SIGKILL the same command goes on from its journal to the same results and figures."""
    whole = finished(start(folder, order, tmp_path / "whole"))
    journal = tmp_path / "journal"
    process = start(folder, order, journal)
    deadline = time.monotonic() + WAIT_S
    first_bytes = 0
    while not first_bytes or journal.stat().st_size == first_bytes:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline, "the journal does not grow"
        if not first_bytes and journal.exists():
            first_bytes = journal.stat().st_size
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert journal.stat().st_size < (tmp_path / "whole").stat().st_size
    again = finished(start(folder, order, journal))
    assert {name: again[name] for name in MEASURED} == {name: whole[name] for name in MEASURED}
    assert whole["search"]["searches"] > EVENTS / 10
    assert journal.stat().st_size >= (tmp_path / "whole").stat().st_size * 0.9
