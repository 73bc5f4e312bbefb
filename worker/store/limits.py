"""Caps and times to live of the state: what settings fix, and what is fixed here, with reasons."""

from __future__ import annotations

from dataclasses import dataclass

from worker.settings import Settings

PAIRED_PRODUCTS = 20
"""Products of one order that are paired with each other: an order of 1,000 lines would make a
million pairs, and the first lines say as much about what goes together."""

EARLIER_PRODUCTS = 10
"""Latest earlier purchases an order is paired with; products whose rows are read for a shopper."""

TOGETHER_READ = 20
"""Neighbours read of one co-purchase row; a list of recommendations has fewer places to give."""

PURCHASED_PRODUCTS = 50
"""Products kept with the time a shopper bought them last: what is paired, and most returns."""

SENTIMENT_DAYS = 400
"""Days with reviews kept of one product: a year, and what corrections may still take away."""

TREND_DAYS = 30
"""The newest days with reviews that the trend compares with all before."""

HISTORY_QUERY_CHARS = 1_000
HISTORY_IDS = 100
"""What a history keeps of one event at most, so that a shopper's history stays below a megabyte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """What both stores cap; the defaults are those of the settings of the same names."""

    history_max_events: int = 200
    history_ttl_s: int = 365 * 86_400
    guard_ttl_s: int = 8 * 86_400
    reviews_per_product: int = 30
    popularity_half_life_s: float = 7 * 86_400.0
    popular_max_products: int = 10_000
    together_max_products: int = 50

    @classmethod
    def from_settings(cls, settings: Settings) -> StoreLimits:
        """Take the limits out of the worker's settings."""
        return cls(
            history_max_events=settings.history_max_events,
            history_ttl_s=settings.history_ttl_s,
            guard_ttl_s=settings.guard_ttl_s,
            reviews_per_product=settings.reviews_per_product,
            popularity_half_life_s=settings.popularity_half_life_s,
            popular_max_products=settings.popular_max_products,
            together_max_products=settings.together_max_products,
        )

    @property
    def state_ttl_s(self) -> int:
        """Life of what must outlive both histories and guards: votes, reviews, rows."""
        return max(self.history_ttl_s, self.guard_ttl_s)
