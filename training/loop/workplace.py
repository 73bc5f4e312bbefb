"""Where a training keeps what it needs to go on: `<out>.training/`, gone when it has succeeded.

The folder belongs to one training: a fingerprint of options and data stands in it, and another
training finds it taken instead of going on with foreign weights.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.release import MANIFEST, file_checksum
from training.loop.options import LoopOptions, TrainingFailed
from training.processes import first_goes_first, is_first, process_number, wait_for_all

_PLAN = "plan.json"


class Workplace:
    """The files of one training that is under way."""

    def __init__(self, out: Path, plan: Mapping[str, Any], *, fresh: bool = False) -> None:
        """Open the workplace of `out`, new or left by an interruption.

        Raises:
            TrainingFailed: `out` holds something else, or another training was interrupted there.
        """
        refuse_foreign(out)
        self.out = out
        self.folder = out.with_name(f"{out.name}.training")
        self.plan = json.loads(json.dumps(plan, default=str))
        with first_goes_first():
            if fresh and is_first():
                shutil.rmtree(self.folder, ignore_errors=True)
            known = self.folder / _PLAN
            if known.is_file():
                self._compare(json.loads(known.read_text(encoding="utf-8")))
            if is_first():
                self.folder.mkdir(parents=True, exist_ok=True)
                known.write_text(json.dumps(self.plan, indent=2), encoding="utf-8")

    @property
    def checkpoints(self) -> Path:
        """The folder of the Trainer's checkpoints."""
        return self.folder / "checkpoints"

    def shared(self, name: str) -> Path:
        """Return a folder that all processes of the training share."""
        return self.folder / name

    def tokens(self, name: str) -> Path:
        """Return the folder of a token store of this process."""
        return self.folder / f"process-{process_number()}" / name

    def close(self) -> None:
        """Remove what only an interrupted training needs."""
        wait_for_all()
        if is_first():
            shutil.rmtree(self.folder, ignore_errors=True)

    def _compare(self, before: Mapping[str, Any]) -> None:
        changed = sorted(
            key for key in self.plan.keys() | before.keys() if self.plan.get(key) != before.get(key)
        )
        if changed:
            raise TrainingFailed(
                f"{self.folder} holds an interrupted training with another {changed[0]}: run that "
                "one's command to finish it, or start anew with --fresh"
            )


def refuse_foreign(out: Path) -> None:
    """Raise TrainingFailed where `out` holds something that no training wrote."""
    if out.exists() and not out.is_dir():
        raise TrainingFailed(f"{out} is a file: name a folder with --out")
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise TrainingFailed(
            f"{out} is not empty and holds no trained model: name another folder with --out"
        )


def data_fingerprint(paths: Sequence[Path]) -> str:
    """Return a hash of files, or of all Parquet files below folders, by name and content."""
    digest = hashlib.sha256()
    for path in paths:
        files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
        for file in files:
            digest.update(f"{file.name}\0{file_checksum(file)}\n".encode())
    return digest.hexdigest()[:16]


def loop_plan(loop: LoopOptions) -> dict[str, Any]:
    """Return the options that two runs must share for one to go on where the other stopped."""
    known = asdict(loop)
    for name in ("fresh", "threads", "checkpoint_every_steps", "cpu"):
        del known[name]
    return known
