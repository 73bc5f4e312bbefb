"""What the live view shows of the learning loop, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from models.metrics import Estimate

StepState = Literal["done", "now", "todo", "failed"]


@dataclass(frozen=True, slots=True)
class LoopStep:
    """A step of the loop, in the order of the steps."""

    text: str
    state: StepState = "todo"


@dataclass(frozen=True, slots=True)
class ServedQuality:
    """The share of tags that were right, of the results of one release (or of several)."""

    name: str  # before, after, now
    right: Estimate
    release: str


@dataclass(frozen=True, slots=True)
class LoopFigures:
    """A snapshot. `quality` has one row before the first swap, and two from then on."""

    steps: Sequence[LoopStep] = ()
    quality: Sequence[ServedQuality] = ()
    gate: str = ""  # the gate's own figures on the newest slice
    note: str = ""  # what comes next
