"""Muon for the blocks' matrices, which decay, AdamW for everything else, stepped as one.

Muon (Jordan 2024) takes the momentum of a matrix to its nearest orthogonal matrix, so that rare
directions are learnt as fast as common ones; its steps are scaled to the size of AdamW's (Liu et
al. 2025), so that both follow one learning rate.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.recommender import RecommenderNetwork
from training.recommender.options import RecommenderTraining

_ADAM_BETAS = (0.9, 0.98)
_MATRIX_RATE = 2.0  # of Muon, times the learning rate


class Optimizers:
    """What moves a network's weights."""

    def __init__(self, network: RecommenderNetwork, options: RecommenderTraining) -> None:
        """Share the weights out."""
        blocks = network.blocks.modules()
        matrices = [module.weight for module in blocks if isinstance(module, nn.Linear)]
        apart = {*matrices}
        rest = [one for one in network.parameters() if one not in apart]
        by_adam = [{"params": rest, "weight_decay": 0.0}]
        decayed = {"params": matrices, "weight_decay": options.weight_decay}
        self._all: list[torch.optim.Optimizer] = []
        if options.optimizer == "muon":
            self._all.append(torch.optim.Muon([decayed], adjust_lr_fn="match_rms_adamw"))
        else:
            by_adam.append(decayed)
        is_fused = network.device.type in ("cpu", "cuda")
        self._all.append(torch.optim.AdamW(by_adam, betas=_ADAM_BETAS, fused=is_fused))
        self._of: dict[nn.Parameter, torch.optim.Optimizer] = {
            one: optimizer
            for optimizer in self._all
            for group in optimizer.param_groups
            for one in group["params"]
        }

    def step(self, learning_rate: float) -> None:
        """Move the weights by their gradients."""
        for optimizer in self._all:
            is_muon = isinstance(optimizer, torch.optim.Muon)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * (_MATRIX_RATE if is_muon else 1.0)
            optimizer.step()

    def state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """Return what is remembered of a weight's gradients; empty before the first step."""
        found: dict[str, Tensor] = self._of[parameter].state.get(parameter, {})
        return found

    def remember(self, parameter: nn.Parameter, state: dict[str, Tensor]) -> None:
        """Set what `state_of` returned in an earlier process."""
        self._of[parameter].state[parameter] = {
            key: value if key == "step" else value.to(parameter.device)
            for key, value in state.items()
        }
