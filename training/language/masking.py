"""Which tokens a masked language model must guess (Devlin et al. 2019, arXiv 1810.04805).

A mask depends on nothing but its `generator`, so that a training that goes on after a break masks
as one that was never interrupted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IGNORED = -100  # the label of a token that is not asked for: cross_entropy leaves it out

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class MaskRule:
    """How much is masked, and how.

    Of the chosen words `mask_share` become the mask token and `random_share` random words; the rest
    stay, so that the model cannot rely on the mask token to know where it is asked.
    """

    mask_id: int
    vocabulary: int
    rate: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1


def mask_words(
    ids: Ids, words: NDArray[np.integer], rule: MaskRule, generator: np.random.Generator
) -> tuple[Ids, Ids]:
    """Return the masked ids (n) and the labels (n): the true id where asked, else IGNORED.

    Words are drawn until `rate` of the tokens is chosen, one at least, and each is treated whole.

    Args:
        ids: token ids (n).
        words: the word of each token (n); tokens of word 0 (special ones) are never chosen.
    """
    masked, labels = ids.copy(), np.full_like(ids, IGNORED)
    known = np.unique(words[words > 0])
    if not len(known):
        return masked, labels
    wanted = max(1, round(rule.rate * int((words > 0).sum())))
    chosen = 0
    for word in generator.permutation(known):
        tokens = np.flatnonzero(words == word)
        if chosen and chosen + len(tokens) > wanted:
            continue  # too long for what is left: a shorter word may still fit
        labels[tokens] = ids[tokens]
        fate = generator.random()
        if fate < rule.mask_share:
            masked[tokens] = rule.mask_id
        elif fate < rule.mask_share + rule.random_share:
            masked[tokens] = generator.integers(rule.vocabulary, size=len(tokens))
        chosen += len(tokens)
        if chosen >= wanted:
            break
    return masked, labels
