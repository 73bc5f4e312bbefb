"""Negatives of a large catalogue: drawn as often as said, and taken out of the loss again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.recommender.losses import sampled_softmax_loss, softmax_loss
from training.recommender.negatives import NegativeDraw
from training.recommender.sequences.event_sequences import EventSequences, from_purchases

ITEMS = 50


@pytest.fixture
def sequences() -> EventSequences:
    """Item i is bought 2 i times; item 0 never, the last one most."""
    items = np.repeat(np.arange(ITEMS), 2 * np.arange(ITEMS))
    return from_purchases(np.zeros(len(items), np.int64), items, [str(i) for i in range(ITEMS)])


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_items_are_drawn_as_often_as_expected(sequences: EventSequences, share: float) -> None:
    """What is said of how often an item comes is how often it comes."""
    torch.manual_seed(1)
    rows, log_expected = NegativeDraw(sequences, 200_000, share).draw()
    counts = np.bincount(rows.numpy(), minlength=ITEMS)
    expected = np.zeros(ITEMS)
    expected[rows.numpy()] = log_expected.exp().numpy()
    assert np.all(np.abs(counts - expected) <= 6 * np.sqrt(expected))
    assert (counts[0] == 0) == (share == 1.0)  # never bought, so drawn evenly or not at all


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_correction_takes_the_draw_out_of_the_loss(
    sequences: EventSequences, share: float
) -> None:
    """With many draws the corrected loss is that over all items, whatever the popularity."""
    torch.manual_seed(2)
    items, states = torch.randn(ITEMS, 8), torch.randn(300, 8)
    targets = torch.randint(ITEMS, (300,))
    drawn, log_expected = NegativeDraw(sequences, 20_000, share).draw()
    sampled = sampled_softmax_loss(
        states, items[targets], items[drawn], log_expected, drawn, targets
    )
    whole = softmax_loss(states, items, targets)
    assert float(sampled / 300) == pytest.approx(float(whole / 300), abs=0.02)


def test_a_draw_of_nothing_is_refused(sequences: EventSequences) -> None:
    """No negatives, or a share beyond one, is a sentence and no training."""
    with pytest.raises(ValueError, match="at least one negative"):
        NegativeDraw(sequences, 0, 0.5)
    with pytest.raises(ValueError, match="popular share"):
        NegativeDraw(sequences, 10, 1.5)
