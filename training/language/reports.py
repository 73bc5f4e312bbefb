"""How well a language model does on held-out texts: the same masks for every model asked."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from models.metrics import Estimate, mean_estimate
from training.language.examples import Examples
from training.language.language_model import LanguageModel
from training.loop.options import LoopOptions
from training.loop.schedule import Draw

_MASK_SEED = 20_240_229
_MAX_ROWS = 2_000  # enough for an interval of a few hundredths


def language_loss(
    model: LanguageModel, examples: Examples | None, loop: LoopOptions
) -> Estimate | None:
    """Return the mean loss of held-out texts (MLM or CLM, without NSP), with its interval."""
    losses = language_losses(model, examples, loop)
    return mean_estimate(losses) if losses else None


def language_losses(
    model: LanguageModel, examples: Examples | None, loop: LoopOptions
) -> list[float]:
    """Return the loss of each held-out text, the same masks at every call; none: no texts."""
    if examples is None:
        return []
    return [loss for batch in _batches(model, examples, loop) for loss in model.row_losses(batch)]


def follow_accuracy(
    model: LanguageModel, examples: Examples | None, loop: LoopOptions
) -> Estimate | None:
    """Return the share of held-out sentence pairs that NSP tells right."""
    if examples is None:
        return None
    right: list[float] = []
    for batch in _batches(model, examples, loop):
        guessed = model.follow_scores(batch).argmax(-1)
        right += (guessed == batch["follows"]).float().tolist()
    return mean_estimate(right) if right else None


def _batches(
    model: LanguageModel, examples: Examples, loop: LoopOptions
) -> Iterator[dict[str, Tensor]]:
    """Yield batches of the first rows, in evaluation mode, on the model's device."""
    rows = range(min(len(examples.lengths), _MAX_ROWS))
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for start in range(0, len(rows), loop.batch_rows):
                chosen = rows[start : start + loop.batch_rows]
                batch = examples.batch([Draw(row, 0, _MASK_SEED) for row in chosen])
                yield {name: tensor.to(model.device) for name, tensor in batch.items()}
    finally:
        model.train(training)
