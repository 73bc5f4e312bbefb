"""Recommender training as processes: one that is killed, and two that share the work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch

from tests.unit.test_train_recommender import OPTIONS, train
from worker.embedded.ports import free_ports

ROOT = Path(__file__).parents[2]

_KILLED = """
import sys
from pathlib import Path
from tests.unit.test_train_recommender import OPTIONS, train
def report(progress):
    print(progress.epoch, progress.batch, flush=True)
train(OPTIONS, checkpoints=Path(sys.argv[1]), report=report)
"""


def test_killed_training_resumes_where_it_was(tmp_path: Path) -> None:
    """A process killed while it trains leaves a whole checkpoint; what resumes ends the same."""
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("1 "):
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    assert process.returncode == -signal.SIGKILL
    torch.set_num_threads(1)
    resumed, whole = train(checkpoints=tmp_path, resume=True), train()
    assert resumed.steps == whole.steps
    assert resumed.best == whole.best


_SHARED = """
import json, sys
from dataclasses import replace
from tests.support.threads_at_exit import write_threads_at_exit
write_threads_at_exit(sys.argv[1] + sys.argv[2] + ".threads")  # first, so it writes last
from tests.unit.test_train_recommender import OPTIONS, train
trained = train(replace(OPTIONS, epochs=6))
weights = trained.network.state_dict()
total = sum(float(value.double().abs().sum()) for value in weights.values())
json.dump([trained.best, total, trained.steps], open(sys.argv[1] + sys.argv[2], "w"))
"""


def test_two_processes_train_one_recommender(tmp_path: Path) -> None:
    """Two processes with half the batches each end alike, having learnt the rule and parted."""
    port = str(free_ports(1)[0])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _SHARED, str(tmp_path / "rank"), str(rank)],
            cwd=ROOT,
            env={
                **os.environ, "OMP_NUM_THREADS": "1", "RANK": str(rank), "WORLD_SIZE": "2",
                "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                "ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": "",
            },
        )
        for rank in range(2)
    ]  # fmt: skip
    assert [process.wait(timeout=240) for process in processes] == [0, 0]
    first, second = (json.loads((tmp_path / f"rank{rank}").read_text()) for rank in range(2))
    assert first == second
    best, _, steps = first
    alone = train(OPTIONS)
    assert steps / 6 < alone.steps / len(alone.epochs)  # fewer steps an epoch: the work is shared
    assert best > 0.4
    for rank in range(2):
        assert "gloo" not in (tmp_path / f"rank{rank}.threads").read_text()
