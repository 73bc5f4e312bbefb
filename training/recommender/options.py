"""How a recommender is trained, and what a training tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from models.recommender import RecommenderNetwork

Precision = Literal["auto", "bf16", "fp32"]
OptimizerName = Literal["muon", "adamw"]


@dataclass(frozen=True, slots=True)
class RecommenderTraining:
    """How to train."""

    seed: int = 7
    epochs: int = 26
    min_steps: int = 3_000  # small data gets more epochs, until there are so many
    max_tokens: int = 5_000  # of a batch and process, padding counted; small data has smaller ones
    optimizer: OptimizerName = "muon"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0  # of the blocks' matrices
    warmup_steps: int = 100
    max_gradient: float = 1.0
    random_window_share: float = 0.5
    visits: bool = False  # learn what the next moment brings, not the next event of this one
    average_decay: float = 0.999  # of the running average that is validated and kept; 0: none
    patience: int = 6  # validations without a better one before it stops
    validate_every: int = 0  # epochs, the last one always; 0: a hundred steps at least
    validation_cases: int = 2_048  # that choose the epoch, drawn by the seed; 0: all
    neighbour_trust: float | None = None  # None: as held-out purchases choose; without them 0
    time_limit_s: float = 0.0  # the learning rate then reaches its end with the clock; 0: none
    precision: Precision = "auto"
    checkpoint_every_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the training stands, for people."""

    epoch: int
    batch: int
    batches: int
    loss: float
    best: float
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class TrainedRecommender:
    """The weights that were best on validation (the last without one), and how they came about."""

    network: RecommenderNetwork
    epochs: list[dict[str, float]]
    best: float  # NDCG@10 of the held-out purchases; -1 without any
    elapsed_s: float
    steps: int


def low_precision(precision: Precision, device: torch.device) -> bool:
    """Return whether to run in bfloat16: on a GPU, and on CPUs that multiply it faster."""
    if precision != "auto":
        return precision == "bf16"
    return device.type == "cuda" or bool(torch.cpu._is_avx512_bf16_supported())
