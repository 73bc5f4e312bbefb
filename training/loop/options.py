"""How a training runs, whatever it learns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """The settings of one training; `steps` 0: as many as `epochs` passes over the rows take."""

    epochs: float = 1.0
    steps: int = 0
    batch_rows: int = 32
    accumulation: int = 1  # batches summed into one step
    learning_rate: float = 5e-5
    warmup_share: float = 0.06
    weight_decay: float = 0.01
    max_gradient_norm: float = 1.0
    lora_rank: int = 0  # 0: all weights are trained
    seed: int = 7
    threads: int = 0  # CPU threads, 0: torch's default
    cpu: bool = False  # True: no GPU even where there is one
    checkpoint_every_steps: int = 500
    fresh: bool = False  # True: what an interrupted training left is thrown away


class TrainingFailed(RuntimeError):
    """A training cannot go on; the message says why and what to try."""


class TrainingDiverged(TrainingFailed):
    """The loss became infinite or no number."""
