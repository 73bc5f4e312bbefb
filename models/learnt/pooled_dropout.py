"""Dropout for training on a CPU: masks are cut from a pool drawn once.

Drawing Bernoulli numbers costs a CPU more than the layer they fall on. A slice at a random offset
of one long pool costs nothing; offsets come from torch's global generator, so a seed fixes them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_POOL_VALUES = 1 << 23  # far more than one mask needs, so that two slices seldom overlap much


class PooledDropout(nn.Module):
    """Sets a share of the values to zero in training and scales the others (Srivastava 2014)."""

    def __init__(self, share: float) -> None:
        """Drop this share of the values."""
        super().__init__()
        if not 0.0 <= share < 1.0:
            raise ValueError(f"a dropout of {share} is not in [0, 1)")
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Return x with dropped values, of the same shape and type."""
        if not self.training or self.share == 0.0:
            return x
        if x.device.type != "cpu" or x.numel() * 4 > _POOL_VALUES:
            return F.dropout(x, self.share)
        pool = _pool(self.share, x.dtype)
        offset = int(torch.randint(pool.numel() - x.numel(), ()))
        return x * pool[offset : offset + x.numel()].view(x.shape)


_pools: dict[tuple[float, torch.dtype], Tensor] = {}


def _pool(share: float, dtype: torch.dtype) -> Tensor:
    """Return the pool of a share: the same in every process, whatever the global seed is."""
    if (share, dtype) not in _pools:
        draw = torch.Generator().manual_seed(20_140_601)
        keep = torch.rand(_POOL_VALUES, generator=draw) >= share
        _pools[share, dtype] = (keep / (1.0 - share)).to(dtype)
    return _pools[share, dtype]
