"""What one check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """A warning does not stop a worker."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    subject: str
    status: Status
    text: str
    advice: str = ""

    @property
    def line(self) -> str:
        """What was found and what to do, in one line."""
        return f"{self.text}: {self.advice}" if self.advice else self.text
