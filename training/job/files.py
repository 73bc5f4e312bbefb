"""What the retraining job keeps on disk, so that a killed job goes on where it stopped.

<work>/<run>/plan.json            the current release, and for each part the time it is cut at
<work>/<run>/parts/<part>/        a trained part (renamed into place when it is whole)
<work>/<run>/bound/<part>/        one that was trained on the new trunk
<work>/<run>/scratch/             what a long training goes on from
<work>/<run>/<step>.json          the result of a finished step
<work>/last.json                  what the last finished job did
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.data.json_files import read_json, write_json

_PLAN = "plan.json"
_LAST = "last.json"


class RunFiles:
    """One run's folder; every step is done once, however often the run is killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def step(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return a finished step's result, or do it and keep its result."""
        standing = read_json(self.folder / f"{name}.json")
        if standing is not None:
            return standing
        result = work()
        write_json(self.folder / f"{name}.json", result)
        return result

    def build(self, name: str, fill: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """Return a built folder's figures, or have `fill` write it; it appears only when whole."""
        target = self.path(name)

        def work() -> dict[str, Any]:
            part = target.with_name(f"{target.name}.part")
            for half in (part, target):
                shutil.rmtree(half, ignore_errors=True)
            part.parent.mkdir(parents=True, exist_ok=True)
            figures = fill(part)
            part.rename(target)
            return figures

        return self.step(name.replace("/", "."), work)

    def path(self, name: str) -> Path:
        """Return where a folder that `build` writes stands."""
        return self.folder / name


def open_run(work: Path, wanted: dict[str, Any]) -> tuple[RunFiles, dict[str, Any], bool]:
    """Return the unfinished run for the same release, or a new one: (files, plan, goes on).

    `wanted` is the new run's plan; a run for another release or another seed is thrown away.
    """
    folder = work / "run"
    plan = read_json(folder / _PLAN)
    if plan is not None and all(plan[key] == wanted[key] for key in ("current", "seed")):
        return RunFiles(folder), plan, True
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_json(folder / _PLAN, wanted)
    return RunFiles(folder), wanted, False


def promoted_run(work: Path, current: str) -> tuple[dict[str, Any], list[str]] | None:
    """Return plan and passed parts of a run that was killed after its release became current."""
    release = read_json(work / "run" / "release.json")
    plan = read_json(work / "run" / _PLAN)
    if release is None or plan is None or release.get("release_id") != current:
        return None
    return plan, list(release["parts"])


def close_run(work: Path, last: dict[str, Any]) -> None:
    """Keep what the job did, and remove what only an unfinished one needs."""
    write_json(work / _LAST, last)
    shutil.rmtree(work / "run", ignore_errors=True)


def read_last(work: Path) -> dict[str, Any]:
    """Return what the last finished job did; empty before the first."""
    return read_json(work / _LAST) or {}
