"""A training that can be killed: weights, averages, best weights and moments in one file.

One safetensors file, its state as JSON in the header, written beside its place and renamed, so a
reader meets the last one whole. No pickle.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from training.recommender.optimizers import Optimizers

FILE_NAME = "training.safetensors"


class CheckpointUnfit(Exception):
    """The training cannot go on from this checkpoint; the message says what to do."""


@dataclass(slots=True)
class TrainingState:
    """Where a training stands; everything else follows from the options and the data."""

    fingerprint: dict[str, Any]  # options and counts of the data that must be the same to go on
    epoch: int = 0
    batch: int = 0  # of the epoch, the next to be run
    step: int = 0
    elapsed_s: float = 0.0
    best: float = -1.0
    waited: int = 0  # validations since the best
    loss_sum: float = 0.0  # of this epoch so far
    loss_count: int = 0
    epochs: list[dict[str, float]] = field(default_factory=list)  # what each epoch gave


@dataclass(slots=True)
class Weights:
    """The tensors of a training: what learns, its running average, and the best on validation."""

    network: nn.Module
    average: dict[str, Tensor]  # empty where no average is kept
    best: dict[str, Tensor]  # empty before the first validation


def write_checkpoint(
    folder: Path, state: TrainingState, weights: Weights, optimizers: Optimizers
) -> None:
    """Write the checkpoint below `folder`, in place of the one before."""
    tensors = {f"network.{k}": v.detach() for k, v in weights.network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in weights.average.items()}
    tensors |= {f"best.{k}": v for k, v in weights.best.items()}
    for name, parameter in weights.network.named_parameters():
        for key, value in optimizers.state_of(parameter).items():
            tensors[f"moments.{key}.{name}"] = torch.as_tensor(value)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{FILE_NAME}.part"
    whole = {name: value.cpu().contiguous() for name, value in tensors.items()}
    save_file(whole, part, metadata={"state": json.dumps(asdict(state))})
    os.replace(part, folder / FILE_NAME)


def read_checkpoint(
    folder: Path,
    fingerprint: Mapping[str, Any],
    weights: Weights,
    optimizers: Optimizers,
) -> TrainingState:
    """Load a checkpoint into the weights and the optimizers; raises CheckpointUnfit."""
    path = folder / FILE_NAME
    if not path.is_file():
        raise CheckpointUnfit(f"{folder} holds no checkpoint: leave out --resume to begin anew")
    try:
        with safe_open(path, framework="pt") as file:
            state = TrainingState(**json.loads(file.metadata()["state"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise CheckpointUnfit(
            f"{path} cannot be read ({error}): delete it and begin anew without --resume"
        ) from error
    now = json.loads(json.dumps(dict(fingerprint)))
    changed = sorted(k for k in now | state.fingerprint if now.get(k) != state.fingerprint.get(k))
    if changed:
        raise CheckpointUnfit(
            f"the checkpoint in {folder} is of another training ({', '.join(changed)} differ): "
            "give the same options and data, or leave out --resume to begin anew"
        )
    weights.network.load_state_dict(_of(tensors, "network."))
    weights.average.update(_of(tensors, "average."))
    weights.best.update(_of(tensors, "best."))
    for name, parameter in weights.network.named_parameters():
        found = {
            key.split(".")[1]: value
            for key, value in tensors.items()
            if key.startswith("moments.") and key.split(".", 2)[2] == name
        }
        if found:
            optimizers.remember(parameter, found)
    return state


def _of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
