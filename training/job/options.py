"""How the retraining job works."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from training.guards import GateOptions


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How the job works; limits count samples."""

    samples: Path
    work: Path
    products: Path | None = None  # fields of a Product a line: what a new trunk's vectors are of
    seed: int = 7
    threads: int = 1
    device: str = "cpu"
    max_tokens: int = 128
    test_share: float = 0.2
    max_test: int = 2_000
    min_train: int = 200
    max_train: int = 50_000
    min_new: int = 100
    force: bool = False
    gate: GateOptions = field(default_factory=GateOptions)
