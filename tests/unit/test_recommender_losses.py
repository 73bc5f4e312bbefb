"""Losses in chunks against plain formulas, values and gradients."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from training.recommender import losses as recommender_losses
from training.recommender.losses import (
    gbce_loss,
    gbce_power,
    sampled_softmax_loss,
    softmax_loss,
)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recommender_losses, "CHUNK_VALUES", 300)  # many chunks, the last one short


def tensors(n: int = 37, items: int = 50, width: int = 8) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    states = torch.randn(n, width, requires_grad=True)
    table = torch.randn(items, width, requires_grad=True)
    return states, table, torch.randint(items, (n,))


def test_chunked_softmax_is_the_cross_entropy() -> None:
    """Value and both gradients are those of torch's cross-entropy over all items."""
    states, table, targets = tensors()
    loss = softmax_loss(states, table, targets)
    found = torch.autograd.grad(3 * loss, (states, table))
    plain = F.cross_entropy(states @ table.T, targets, reduction="sum")
    expected = torch.autograd.grad(3 * plain, (states, table))
    assert torch.allclose(loss, plain, rtol=1e-5)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_chunked_softmax_in_bfloat16_is_near() -> None:
    """Under autocast the loss stays within a hundredth of the exact one."""
    states, table, targets = tensors()
    with torch.autocast("cpu", torch.bfloat16):
        loss = softmax_loss(states, table, targets)
    plain = F.cross_entropy(states @ table.T, targets, reduction="sum")
    assert loss.dtype == torch.float32
    assert abs(float(loss.detach() / plain.detach()) - 1) < 0.01


def test_sampled_softmax_follows_the_formula() -> None:
    """Value and gradients are the formula's: own draws left out, others corrected by their rate."""
    states, table, targets = tensors()
    drawn = torch.randint(50, (20,))
    log_expected = torch.rand(20)
    loss = sampled_softmax_loss(states, table[targets], table[drawn], log_expected, drawn, targets)
    found = torch.autograd.grad(loss, (states, table))
    total = torch.zeros(())
    for state, target in zip(states, targets, strict=True):
        right = (state @ table[target]).exp()
        others = sum(
            (state @ table[item]).exp() / often.exp()
            for item, often in zip(drawn, log_expected, strict=True)
            if item != target
        )
        total = total - (right / (right + others)).log()
    expected = torch.autograd.grad(total, (states, table))
    assert torch.allclose(loss, total, rtol=1e-4)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-3)


def test_sampled_softmax_of_every_item_is_the_whole_one() -> None:
    """With each item drawn once the sampled loss is the full cross-entropy."""
    states, table, targets = tensors()
    every = torch.arange(50)
    loss = sampled_softmax_loss(states, table[targets], table, torch.zeros(50), every, targets)
    assert torch.allclose(loss, softmax_loss(states, table, targets), rtol=1e-4)


def test_gbce_follows_the_formula() -> None:
    """The loss is the paper's with an intercept; the power is 1 uncalibrated, α calibrated."""
    states, table, targets = tensors()
    drawn = torch.randint(50, (20,))
    loss = gbce_loss(states, table[targets], table[drawn], drawn, targets, 50, 0.75)
    rate = 20 / 49
    power = rate * (0.75 * (1 - 1 / rate) + 1 / rate)
    total = 0.0
    for state, target in zip(states, targets, strict=True):
        total -= power * math.log(torch.sigmoid((state @ table[target]).detach() - math.log(20)))
        for item in drawn:
            if item != target:
                total -= math.log(1 - torch.sigmoid((state @ table[item]).detach() - math.log(20)))
    assert math.isclose(float(loss.detach()), total, rel_tol=1e-4)
    assert math.isclose(gbce_power(20, 50, 0.0), 1.0)
    assert math.isclose(gbce_power(20, 50, 1.0), rate)
