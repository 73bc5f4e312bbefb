"""What the places of a result list say: who was surely seen, and how much a purchase counts."""

from __future__ import annotations

from collections.abc import Sequence


def position_weight(shown: Sequence[str], product: str, *, eta: float, most: float = 10.0) -> float:
    """Return how much a purchase counts for the place it was shown at; 1 where that is unknown.

    The chance that place k (from 1) is looked at is taken as (1 / k)^η; its inverse makes up for
    purchases that low places miss (Joachims et al. 2017, arXiv 1608.04468). `most` keeps one lucky
    click from outweighing a batch.
    """
    if product not in shown:
        return 1.0
    return float(min((shown.index(product) + 1) ** eta, most))


def looked_at_first(shown: Sequence[str], product: str, negatives: Sequence[str]) -> list[str]:
    """Return the negatives, those above the bought product first: they were surely looked at.

    Joachims 2002, "skip above".
    """
    place = {item: number for number, item in reversed(list(enumerate(shown)))}
    bought = place.get(product, len(shown))
    return sorted(negatives, key=lambda item: place.get(item, len(shown)) > bought)
