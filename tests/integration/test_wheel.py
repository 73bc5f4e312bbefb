"""The built wheel holds all that the source does; an editable install would hide a missing file."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_wheel_holds_every_tracked_file_of_the_packages(tmp_path: Path) -> None:
    """Each tracked file of the packages (scripts and weights too) is in the wheel."""
    tracked = subprocess.run(
        ["git", "ls-files", "worker", "models", "training"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\n")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    present = {name for name in tracked if name and (REPOSITORY / name).exists()}
    assert present
    assert present - held == set()
