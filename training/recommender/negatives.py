"""Which items stand against the bought one where a catalogue is too large for all of them.

Drawn evenly, most negatives of a long-tailed catalogue are ones that nobody buys, and the network
is never asked to tell the popular from each other. A share drawn by popularity is the remedy; the
logQ correction (Bengio & Senécal 2008) takes the bias of the draw out of the loss again, here for
the mixture of both draws (Yang et al. 2020, mixed negative sampling).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from training.recommender.sequences.event_sequences import EventSequences


class NegativeDraw:
    """Draws item rows with repetition: a share by how often they were bought, the others evenly."""

    def __init__(self, sequences: EventSequences, count: int, popular_share: float) -> None:
        """Prepare for `count` draws (S) among the V items of the sequences.

        Raises:
            ValueError: no draw is asked for, or the share is no share.
        """
        if count < 1 or not 0.0 <= popular_share <= 1.0:
            raise ValueError("at least one negative, and a popular share of 0 to 1")
        bought = np.bincount(sequences.inputs[sequences.is_label], minlength=sequences.items)
        self._items = sequences.items
        self._count = count
        self._popular = round(count * popular_share) if bought.any() else 0
        by_count = bought / max(1, bought.sum())
        expected = (count - self._popular) / self._items + self._popular * by_count
        with np.errstate(divide="ignore"):  # what is never drawn is never looked up
            self._log_expected = torch.from_numpy(np.log(expected).astype(np.float32))  # (V,)
        self._bounds = torch.from_numpy(np.cumsum(by_count))  # (V,)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Return S item rows and the log of how often each was expected, by torch's generator."""
        even = torch.randint(self._items, (self._count - self._popular,))
        places = torch.rand(self._popular, dtype=torch.float64) * self._bounds[-1]
        popular = torch.searchsorted(self._bounds, places, right=True).clamp(max=self._items - 1)
        drawn = torch.cat([even, popular])
        return drawn, self._log_expected[drawn]
