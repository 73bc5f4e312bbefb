"""Every loss of the language models, on scores and labels alone.

    L_BERT  = L_MLM + L_NSP                    Devlin et al. 2019, arXiv 1810.04805
    L_GPT   = L_CLM                            Radford et al. 2018; 2019
    L       = L_pretrain + α · L_task          joint fine-tuning (auxiliary language modelling of
                                               Radford et al. 2018, section 3.2, turned round)

Letters: B examples, L tokens, V vocabulary, M asked tokens, Q queries, P passages, D width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from models.text.sentiment import LABELS
from training.language.masking import IGNORED

_NEUTRAL = LABELS.index("neutral")


def mlm_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of the masked tokens; 0 where nothing is masked.

    Args:
        scores: (B, L, V), or (M, V) where only the asked tokens were scored.
        labels: (B, L) or (M): the true token, or IGNORED where it is not asked for.
    """
    asked = labels != IGNORED
    if not asked.any():
        return scores.sum() * 0.0
    return F.cross_entropy(scores[asked].float(), labels[asked])


def nsp_loss(scores: Tensor, follows: Tensor) -> Tensor:
    """Return the cross-entropy of "does B follow A?": scores (B, 2), labels (B), 0: it does."""
    return F.cross_entropy(scores.float(), follows)


def clm_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of each next token.

    Args:
        scores: (B, L, V); place t scores the token at t + 1.
        labels: (B, L): the tokens themselves, IGNORED where padding stands.
    """
    return mlm_loss(scores[:, :-1], labels[:, 1:])


def joint_loss(pretrain: Tensor | None, task: Tensor | None, alpha: float) -> Tensor:
    """Return L = L_pretrain + α·L_task; with α infinite L_task alone, with α = 0 L_pretrain alone.

    Raises:
        ValueError: α is negative or no number, or the part that α asks for is missing.
    """
    if math.isnan(alpha) or alpha < 0:
        raise ValueError(f"alpha must be 0 or more, not {alpha}")
    if math.isinf(alpha) or pretrain is None:
        if task is None:
            raise ValueError("there is neither a pretraining loss nor a task loss")
        return task if pretrain is None or math.isinf(alpha) else pretrain + alpha * task
    return pretrain if task is None or alpha == 0 else pretrain + alpha * task


def contrastive_loss(
    queries: Tensor,
    passages: Tensor,
    positives: Tensor,
    *,
    temperature: float = 0.05,
    excluded: Tensor | None = None,
    weights: Tensor | None = None,
    log_shares: Tensor | None = None,
) -> Tensor:
    """Return the softmax loss of each query's passage among all passages of the batch.

    In-batch negatives: Karpukhin et al. 2020 (DPR, arXiv 2004.04906); InfoNCE: van den Oord et al.
    2018. A passage that is popular stands among the negatives more often than it deserves: logQ
    correction, Yi et al. 2019 (RecSys). Weighting by the inverse propensity that a shown place was
    looked at: Joachims et al. 2017 (arXiv 1608.04468).

    Args:
        queries: unit vectors (Q, D).
        passages: unit vectors (P, D): the positives and the hard negatives of all queries.
        positives: (Q), the row of each query's passage.
        excluded: (Q, P) bool: passages that are no negatives of a query (they answer it too).
        weights: (Q), how much each query counts; the mean of them need not be 1.
        log_shares: (P), the logarithm of how often each passage is drawn as a positive.
    """
    scores = queries.float() @ passages.float().T / temperature  # (Q, P)
    own = F.one_hot(positives, len(passages)).bool()
    if log_shares is not None:
        scores = scores - log_shares
    if excluded is not None:
        scores = scores.masked_fill(excluded & ~own, float("-inf"))
    losses = F.cross_entropy(scores, positives, reduction="none")  # (Q)
    if weights is None:
        return losses.mean()
    return (losses * weights).sum() / weights.sum()


def partial_label_losses(scores: Tensor, labels: Tensor, binary: Tensor) -> Tensor:
    """Return the cross-entropy of each review (B): scores (B, 3), labels (B), `binary` (B) bool.

    Where a source knows no neutral, neutral is not wrong, only unsaid: such rows are scored on the
    two labels they chose between (partial labels, Jin and Ghahramani 2002).
    """
    neutral = torch.arange(scores.shape[-1], device=scores.device) == _NEUTRAL
    masked = scores.float().masked_fill(binary.unsqueeze(-1) & neutral, float("-inf"))
    return F.cross_entropy(masked, labels, reduction="none")
