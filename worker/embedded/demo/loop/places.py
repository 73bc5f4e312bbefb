"""Where the learning loop of one demo keeps what it makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class LoopPlaces:
    """`room` goes with the demo; `logs` too where it is temporary."""

    logs: Path
    room: Path
    temporary: bool

    @property
    def samples(self) -> Path:
        """The folder of samples."""
        return self.room / "samples"

    @property
    def releases(self) -> Path:
        """The release store."""
        return self.room / "releases"
