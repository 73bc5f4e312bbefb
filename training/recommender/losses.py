"""Losses of next-item training over large catalogues, in chunks, so that logits are never kept.

Letters: n positions, D width, V items, S sampled negatives. All losses are sums over positions.
Sources: full softmax over all items (Klenitskiy & Vasilev 2023 found it to beat sampled binary
losses); sampled softmax with the logQ correction (Bengio & Senécal 2008, Yi et al. 2019), the
target itself uncorrected; gBCE (Petrov & Macdonald 2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LossName = Literal["softmax", "sampled-softmax", "gbce"]
CHUNK_VALUES = 1 << 22  # logits of one chunk

# states (c, D), items, targets (c,) → (loss sum, d states, d items), gradients of the sum
ChunkLoss = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def softmax_loss(states: Tensor, items: Tensor, targets: Tensor) -> Tensor:
    """Return the summed cross-entropy over all V items: `states` (n, D), `items` (V, D).

    Products run in autocast's type, sums in float32.
    """
    return _chunked(states, items, targets, _softmax_chunk, len(items))


def sampled_softmax_loss(
    states: Tensor,
    positives: Tensor,
    negatives: Tensor,
    log_expected: Tensor,
    hits: Tensor,
    targets: Tensor,
) -> Tensor:
    """Return the summed sampled cross-entropy.

    `positives` (n, D) are the targets' vectors, `negatives` (S, D) those drawn, `log_expected` (S,)
    the log of how often each was expected to be drawn, `hits` (S,) the rows of the drawn items: a
    draw that is the position's own target counts for nothing.
    """

    def loss(chunk: Tensor, drawn: Tensor, wanted: Tensor, own: Tensor) -> Tensor:
        logits = (chunk @ drawn.T).float() - log_expected
        logits = logits.masked_fill(wanted.unsqueeze(1) == hits, -math.inf)
        positive = (chunk.float() * own.float()).sum(-1, keepdim=True)
        return -F.log_softmax(torch.cat([positive, logits], dim=1), dim=1)[:, 0].sum()

    return _sampled(states, positives, negatives, targets, loss)


def gbce_loss(
    states: Tensor,
    positives: Tensor,
    negatives: Tensor,
    hits: Tensor,
    targets: Tensor,
    catalogue: int,
    calibration: float = 0.75,
) -> Tensor:
    """Return the summed generalised binary cross-entropy over S uniform negatives.

    `calibration` is the paper's t: 0 is plain BCE, 1 lets scores be read as softmax's. Other than
    in the paper a fixed intercept, -log S, is added to all scores: without it the first epochs are
    spent on pushing every score down to the rate of the positives, and nothing is learnt.
    """
    power = gbce_power(len(negatives), catalogue, calibration)
    intercept = -math.log(len(negatives))

    def loss(chunk: Tensor, drawn: Tensor, wanted: Tensor, own: Tensor) -> Tensor:
        logits = (chunk @ drawn.T).float() + intercept
        logits = logits.masked_fill(wanted.unsqueeze(1) == hits, -math.inf)
        positive = (chunk.float() * own.float()).sum(-1) + intercept
        return -power * F.logsigmoid(positive).sum() - F.logsigmoid(-logits).sum()

    return _sampled(states, positives, negatives, targets, loss)


def gbce_power(negatives: int, catalogue: int, calibration: float) -> float:
    """Return the power of the positive's probability: α (t (1 - 1/α) + 1/α), α = S / (V - 1)."""
    rate = min(1.0, negatives / max(1, catalogue - 1))
    return rate * (calibration * (1.0 - 1.0 / rate) + 1.0 / rate)


def _softmax_chunk(states: Tensor, items: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # the gradient to a logit is its probability, less one for the target
    slopes = torch.softmax(states @ items.T, dim=1)  # (c, V)
    wanted = slopes.gather(1, targets.unsqueeze(1)).float()
    loss = -wanted.clamp(min=torch.finfo(torch.float32).tiny).log().sum()
    slopes.scatter_add_(1, targets.unsqueeze(1), torch.full_like(wanted, -1, dtype=slopes.dtype))
    return loss, slopes @ items, (slopes.T @ states).float()


class _Chunked(torch.autograd.Function):
    """Forms the gradients beside the loss, chunk by chunk, and keeps no logits."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, items: Tensor, targets: Tensor, chunk: ChunkLoss, rows: int
    ) -> Tensor:
        kind = states.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else items.dtype
        low, table = states.to(dtype), items.to(dtype)
        d_states, d_items = torch.empty_like(low), torch.zeros_like(items, dtype=torch.float32)
        total = torch.zeros((), device=states.device)
        with torch.autocast(kind, enabled=False):
            for start in range(0, len(low), rows):
                part = slice(start, start + rows)
                loss, d_states[part], d_table = chunk(low[part], table, targets[part])
                d_items += d_table
                total += loss
        ctx.save_for_backward(d_states.to(states.dtype), d_items.to(items.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> tuple[Tensor, Tensor, None, None, None]:
        d_states, d_items = ctx.saved_tensors
        return d_states * slopes[0], d_items * slopes[0], None, None, None


def _chunked(
    states: Tensor, items: Tensor, targets: Tensor, chunk: ChunkLoss, values: int
) -> Tensor:
    rows = max(1, CHUNK_VALUES // max(1, values))
    loss: Tensor = _Chunked.apply(states, items, targets, chunk, rows)  # type: ignore[no-untyped-call]
    return loss


def _sampled(
    states: Tensor,
    positives: Tensor,
    negatives: Tensor,
    targets: Tensor,
    loss: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """Sum a loss over chunks of positions; backwards each chunk's logits are formed anew."""
    from torch.utils.checkpoint import checkpoint

    kind = states.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
    rows = max(1, CHUNK_VALUES // max(1, len(negatives)))
    low, drawn = states.to(dtype), negatives.to(dtype)
    total = torch.zeros((), device=states.device)
    for start in range(0, len(states), rows):
        part = slice(start, start + rows)
        total = total + checkpoint(
            loss, low[part], drawn, targets[part], positives[part], use_reentrant=False
        )
    return total
