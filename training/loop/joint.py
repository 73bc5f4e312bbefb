"""One module for the Trainer: L = L_pretrain + α·L_task over one language model."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.language.examples import Examples
from training.language.language_model import LanguageModel
from training.loop.options import LoopOptions
from training.loop.schedule import Draw, Schedule
from training.loop.trainer import run_loop
from training.losses import joint_loss

logger = logging.getLogger(__name__)


class Task(Protocol):
    """What a shop wants of the trunk: rows to learn from, and a loss on them."""

    @property
    def module(self) -> nn.Module:
        """The weights of its own, if any."""
        ...

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row."""
        ...

    def batch(self, draws: Sequence[Draw]) -> dict[str, Any]:
        """Return the tensors of the drawn rows."""
        ...

    def loss(self, language_model: LanguageModel, batch: dict[str, Any]) -> Tensor:
        """Return L_task of a batch."""
        ...


class JointModel(nn.Module):
    """Language model and task under one roof; `forward` gives the losses by name."""

    def __init__(self, language_model: LanguageModel, task: Task | None, alpha: float) -> None:
        """Join them; without a task the loss is L_pretrain alone."""
        super().__init__()
        self.language_model = language_model
        self.task_module = task.module if task is not None else nn.Module()
        self._task = task
        self._alpha = alpha

    def forward(
        self, pretrain: dict[str, Tensor] | None = None, task: dict[str, Any] | None = None
    ) -> dict[str, Tensor]:
        """Return `loss` and the parts it is made of."""
        parts = self.language_model.losses(pretrain) if pretrain is not None else {}
        pretrain_loss = torch.stack(list(parts.values())).sum() if parts else None
        task_loss = None
        if task is not None and self._task is not None:
            task_loss = parts["task_loss"] = self._task.loss(self.language_model, task)
        return {"loss": joint_loss(pretrain_loss, task_loss, self._alpha), **parts}


def warm_up_head(
    model: LanguageModel, examples: Examples, loop: LoopOptions, steps: int, folder: Path
) -> None:
    """Train a language head that the checkpoint lacks, the trunk held still."""
    logger.info("the checkpoint has no language head: %d steps for one, the trunk held", steps)
    trunk = list(model.trunk.parameters())
    for weight in trunk:
        weight.requires_grad_(False)
    options = replace(loop, learning_rate=1e-3, weight_decay=0.0, accumulation=1)
    schedule = Schedule(
        examples.lengths, batch_rows=loop.batch_rows, steps=steps, seed=loop.seed + 1
    )
    run_loop(
        JointModel(model, task=None, alpha=0.0),
        lambda step: {"pretrain": examples.batch(schedule.batch(step))},
        steps,
        options,
        folder,
    )
    for weight in trunk:
        weight.requires_grad_(True)
