"""What the processes of one recommender training tell each other: sums, and their gradients."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import nn


class SharedWork:
    """Sums over all processes; where there is but one, its own values."""

    def __init__(self, accelerator: Accelerator) -> None:
        """Share with the processes that the accelerator knows."""
        self._accelerator = accelerator
        self._alone = int(accelerator.num_processes) == 1

    def summed(self, *values: float) -> tuple[float, ...]:
        """Return the sums of these values over all processes, in float64."""
        if self._alone:
            return values
        mine = torch.tensor(values, dtype=torch.float64, device=self._accelerator.device)
        return tuple(self._accelerator.reduce(mine, "sum").tolist())

    def sum_gradients(self, network: nn.Module, scale: float) -> None:
        """Replace a network's gradients by `scale` times their sum, in one message."""
        parameters = list(network.parameters())
        if self._alone:
            torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], scale)
            return
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([grad.flatten() for grad in grads])
        flat = self._accelerator.reduce(flat, "sum") * scale
        for parameter, part in zip(parameters, flat.split([g.numel() for g in grads]), strict=True):
            parameter.grad = part.view_as(parameter)
