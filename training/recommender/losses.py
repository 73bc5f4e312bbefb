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

from models.learnt.successors import Bonus, no_bonus

LossName = Literal["softmax", "sampled-softmax", "gbce"]
CHUNK_VALUES = 1 << 22  # logits of one chunk

# logits of the targets (c,) and of the drawn items (c, S), -inf where one is the target → loss sum
DrawnLoss = Callable[[Tensor, Tensor], Tensor]


def softmax_loss(
    states: Tensor, items: Tensor, targets: Tensor, bonus: Bonus | None = None
) -> Tensor:
    """Return the summed cross-entropy over all V items: `states` (n, D), `items` (V, D).

    The logits are the dot products and the `bonus`. Products run in autocast's type, sums in
    float32.
    """
    bonus = no_bonus(len(states), states.device) if bonus is None else bonus
    loss: Tensor = _Softmax.apply(states, items, targets, bonus.rows, bonus.values)  # type: ignore[no-untyped-call]
    return loss


def sampled_softmax_loss(
    states: Tensor,
    positives: Tensor,
    negatives: Tensor,
    log_expected: Tensor,
    hits: Tensor,
    targets: Tensor,
    bonus: Bonus | None = None,
) -> Tensor:
    """Return the summed sampled cross-entropy.

    `positives` (n, D) are the targets' vectors, `negatives` (S, D) those drawn, `log_expected` (S,)
    the log of how often each was expected to be drawn, `hits` (S,) the rows of the drawn items: a
    draw that is the position's own target counts for nothing.
    """

    def loss(positive: Tensor, drawn: Tensor) -> Tensor:
        logits = torch.cat([positive.unsqueeze(1), drawn - log_expected], dim=1)
        return -F.log_softmax(logits, dim=1)[:, 0].sum()

    return _sampled(states, positives, negatives, hits, targets, bonus, loss)


def gbce_loss(
    states: Tensor,
    positives: Tensor,
    negatives: Tensor,
    hits: Tensor,
    targets: Tensor,
    catalogue: int,
    calibration: float = 0.75,
    bonus: Bonus | None = None,
) -> Tensor:
    """Return the summed generalised binary cross-entropy over S uniform negatives.

    `calibration` is the paper's t: 0 is plain BCE, 1 lets scores be read as softmax's. Other than
    in the paper a fixed intercept, -log S, is added to all scores: without it the first epochs are
    spent on pushing every score down to the rate of the positives, and nothing is learnt.
    """
    power = gbce_power(len(negatives), catalogue, calibration)
    intercept = -math.log(len(negatives))

    def loss(positive: Tensor, drawn: Tensor) -> Tensor:
        right = F.logsigmoid(positive + intercept).sum()
        return -power * right - F.logsigmoid(-(drawn + intercept)).sum()

    return _sampled(states, positives, negatives, hits, targets, bonus, loss)


def gbce_power(negatives: int, catalogue: int, calibration: float) -> float:
    """Return the power of the positive's probability: α (t (1 - 1/α) + 1/α), α = S / (V - 1)."""
    rate = min(1.0, negatives / max(1, catalogue - 1))
    return rate * (calibration * (1.0 - 1.0 / rate) + 1.0 / rate)


class _Softmax(torch.autograd.Function):
    """Forms the gradients beside the loss, chunk by chunk, and keeps no logits."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, items: Tensor, targets: Tensor, rows: Tensor, values: Tensor
    ) -> Tensor:
        kind = states.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else items.dtype
        low, table = states.to(dtype), items.to(dtype)
        d_states, d_items = torch.empty_like(low), torch.zeros_like(items, dtype=torch.float32)
        d_values = torch.empty_like(values)
        total = torch.zeros((), device=states.device)
        step = max(1, CHUNK_VALUES // max(1, len(items)))
        with torch.autocast(kind, enabled=False):
            for start in range(0, len(low), step):
                part = slice(start, start + step)
                wanted = targets[part].unsqueeze(1)
                logits = Bonus(rows[part], values[part]).add_to(low[part] @ table.T)  # (c, V)
                # the gradient to a logit is its probability, less one for the target
                slopes = torch.softmax(logits, dim=1)
                chance = slopes.gather(1, wanted).float()
                total -= chance.clamp(min=torch.finfo(torch.float32).tiny).log().sum()
                slopes.scatter_add_(1, wanted, torch.full_like(chance, -1, dtype=slopes.dtype))
                d_states[part] = slopes @ table
                d_items += (slopes.T @ low[part]).float()
                d_values[part] = slopes.gather(1, rows[part]).to(values.dtype)
        ctx.save_for_backward(d_states.to(states.dtype), d_items.to(items.dtype), d_values)
        return total

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> tuple[Tensor, Tensor, None, None, Tensor]:
        d_states, d_items, d_values = ctx.saved_tensors
        return d_states * slopes[0], d_items * slopes[0], None, None, d_values * slopes[0]


def _sampled(
    states: Tensor,
    positives: Tensor,
    negatives: Tensor,
    hits: Tensor,
    targets: Tensor,
    bonus: Bonus | None,
    loss: DrawnLoss,
) -> Tensor:
    """Sum a loss over chunks of positions; backwards each chunk's logits are formed anew."""
    from torch.utils.checkpoint import checkpoint

    kind = states.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype
    bonus = no_bonus(len(states), states.device) if bonus is None else bonus
    different, places = torch.unique(hits, return_inverse=True)  # (r,), (S,)

    def chunk_loss(
        chunk: Tensor, drawn: Tensor, wanted: Tensor, own: Tensor, rows: Tensor, values: Tensor
    ) -> Tensor:
        added = Bonus(rows, values)
        positive = (chunk.float() * own.float()).sum(-1) + added.of(wanted)
        logits = (chunk @ drawn.T).float() + _drawn_part(added, different)[:, places]
        logits = logits.masked_fill(wanted.unsqueeze(1) == hits, -math.inf)
        return loss(positive, logits)

    step = max(1, CHUNK_VALUES // max(1, len(negatives)))
    low, drawn = states.to(dtype), negatives.to(dtype)
    total = torch.zeros((), device=states.device)
    for start in range(0, len(states), step):
        part = slice(start, start + step)
        total = total + checkpoint(
            chunk_loss, low[part], drawn, targets[part], positives[part], *bonus.part(part),
            use_reentrant=False,
        )  # fmt: skip
    return total


def _drawn_part(bonus: Bonus, drawn: Tensor) -> Tensor:
    """Return what a bonus adds to each of the drawn items (r,), in order: (c, r)."""
    places = torch.searchsorted(drawn, bonus.rows).clamp(max=len(drawn) - 1)
    values = bonus.values * (drawn[places] == bonus.rows)
    return values.new_zeros((len(bonus.rows), len(drawn))).scatter_add(1, places, values)
