"""Each loss against a computation by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from training.language.masking import IGNORED
from training.losses import (
    clm_loss,
    contrastive_loss,
    joint_loss,
    mlm_loss,
    nsp_loss,
    partial_label_losses,
)


def _log_softmax(row: Tensor) -> list[float]:
    total = sum(math.exp(value) for value in row.tolist())
    return [value - math.log(total) for value in row.tolist()]


def test_mlm_counts_asked_tokens_alone() -> None:
    """MLM is the mean of minus log p(true token) over the asked tokens, others left out."""
    torch.manual_seed(0)
    scores = torch.randn(2, 3, 5)
    labels = torch.tensor([[IGNORED, 4, IGNORED], [0, IGNORED, 2]])
    by_hand = [-_log_softmax(scores[0, 1])[4], -_log_softmax(scores[1, 0])[0]]
    by_hand.append(-_log_softmax(scores[1, 2])[2])
    assert float(mlm_loss(scores, labels)) == pytest.approx(sum(by_hand) / 3, rel=1e-5)


def test_mlm_of_nothing_asked_is_zero_and_has_a_gradient() -> None:
    """A batch in which nothing is masked gives 0 and no NaN."""
    scores = torch.randn(1, 2, 4, requires_grad=True)
    loss = mlm_loss(scores, torch.full((1, 2), IGNORED))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0.0
    assert scores.grad is not None
    assert float(scores.grad.abs().sum()) == 0.0


def test_clm_scores_the_next_token() -> None:
    """CLM compares place t with the token at t + 1 and leaves padding out."""
    torch.manual_seed(1)
    scores = torch.randn(1, 4, 6)
    labels = torch.tensor([[3, 1, 5, IGNORED]])
    by_hand = (-_log_softmax(scores[0, 0])[1] - _log_softmax(scores[0, 1])[5]) / 2
    assert float(clm_loss(scores, labels)) == pytest.approx(by_hand, rel=1e-5)


def test_nsp_and_bert_are_sums_of_cross_entropies() -> None:
    """L_BERT = L_MLM + L_NSP, L_NSP the cross-entropy of two classes."""
    scores, follows = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    by_hand = (-_log_softmax(scores[0])[0] - _log_softmax(scores[1])[0]) / 2
    assert float(nsp_loss(scores, follows)) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize(
    ("alpha", "expected"), [(0.0, 2.0), (0.5, 3.5), (1.0, 5.0), (math.inf, 3.0)]
)
def test_joint_loss_weighs_the_task(alpha: float, expected: float) -> None:
    """L = L_pretrain + α·L_task; α = 0 leaves the texts alone, α = inf the task alone."""
    assert float(joint_loss(torch.tensor(2.0), torch.tensor(3.0), alpha)) == expected


@pytest.mark.parametrize("alpha", [-1.0, math.nan])
def test_joint_loss_refuses_a_senseless_alpha(alpha: float) -> None:
    """A negative α, or one that is no number, is refused."""
    with pytest.raises(ValueError, match="alpha"):
        joint_loss(torch.tensor(2.0), torch.tensor(3.0), alpha)


def test_contrastive_loss_by_hand() -> None:
    """Each query's passage against all others, weighted, with exclusions and logQ correction."""
    queries = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2], [0.3, 1.0]]), dim=-1)
    passages = torch.nn.functional.normalize(
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), dim=-1
    )
    positives, weights = torch.tensor([0, 1]), torch.tensor([1.0, 3.0])
    excluded = torch.tensor([[False, False, True], [False, True, False]])
    log_shares = torch.tensor([math.log(0.5), math.log(0.25), math.log(0.25)])
    scores = queries @ passages.T / 0.1 - log_shares
    first = -_log_softmax(scores[0, :2])[0]  # the third passage answers it too
    second = -_log_softmax(scores[1])[1]  # its own passage is never excluded
    loss = contrastive_loss(
        queries,
        passages,
        positives,
        temperature=0.1,
        excluded=excluded,
        weights=weights,
        log_shares=log_shares,
    )
    assert float(loss) == pytest.approx((first + 3 * second) / 4, rel=1e-5)


def test_partial_labels_leave_neutral_out_of_binary_sources() -> None:
    """A row of a binary source is scored on negative and positive alone."""
    scores = torch.tensor([[1.0, 9.0, 0.0], [1.0, 9.0, 0.0]])
    losses = partial_label_losses(scores, torch.tensor([0, 0]), torch.tensor([True, False]))
    assert float(losses[0]) == pytest.approx(-_log_softmax(torch.tensor([1.0, 0.0]))[0], rel=1e-5)
    assert float(losses[1]) == pytest.approx(-_log_softmax(scores[1])[0], rel=1e-5)
