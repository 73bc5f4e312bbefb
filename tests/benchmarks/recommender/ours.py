"""The project's own recommender, trained for a benchmark by its own command.

Folders stay in `.shopstream/benchmarks`, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ROOT / ".shopstream" / "benchmarks"


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How to train; `release`: a folder trained before, instead of training."""

    seed: int = 7
    minutes: float = 0.0  # 0: no limit
    threads: int = 1
    arguments: tuple[str, ...] = ()  # further ones of `shopstream train recommender`
    release: Path | None = None


class TrainingEnded(Exception):
    """The training command failed; it has said why."""


def train_ours(name: str, interactions: Path, plan: TrainingPlan, *protocol: str) -> Path:
    """Return the folder of a recommender trained on the training part of a protocol.

    Raises:
        TrainingEnded: the command failed.
    """
    if plan.release is not None:
        return plan.release
    out = FOLDERS / f"{name}-seed{plan.seed}"
    command: Sequence[str] = (
        sys.executable, "-m", "worker.commands", "train", "recommender",
        "--interactions", str(interactions), "--out", str(out), *protocol,
        "--seed", str(plan.seed), "--threads", str(plan.threads),
        "--time-limit-s", str(plan.minutes * 60), *plan.arguments,
        *(("--resume",) if (out / "checkpoint").is_dir() else ()),
    )  # fmt: skip
    started_s = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, stdout=sys.stderr)
    if done.returncode:
        raise TrainingEnded(f"training ended with status {done.returncode}, see above")
    print(f"{name}: trained in {time.monotonic() - started_s:.0f} s", file=sys.stderr)
    return out
