"""A product's counters, read back: what the mean and the trend are computed from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from worker.store.limits import TREND_DAYS
from worker.store.results import ProductSentiment

_MICRO = 1_000_000
COUNTERS = ("negative", "neutral", "positive", "score_micro")  # in the hash `sentiment`


@dataclass(frozen=True, slots=True)
class SentimentTally:
    """Counts by label, the sum of scores, and (reviews, sum of scores) of the newest days."""

    negative: int
    neutral: int
    positive: int
    score_micro: int
    newest_days: tuple[tuple[int, int], ...]  # at most `TREND_DAYS`, newest first

    @classmethod
    def from_redis(
        cls, counters: Sequence[bytes | None], days: Iterable[bytes]
    ) -> SentimentTally | None:
        """Read `COUNTERS` of the hash `sentiment` and the newest members of `sentiment_days`."""
        if all(counter is None for counter in counters):
            return None
        negative, neutral, positive, score_micro = (int(counter or 0) for counter in counters)
        parts = (day.split(b":") for day in days)
        newest_days = tuple((int(reviews), int(total)) for _, reviews, total in parts)
        return cls(negative, neutral, positive, score_micro, newest_days)

    @property
    def reviews(self) -> int:
        """Reviews counted."""
        return self.negative + self.neutral + self.positive

    def summary(self, product_id: str) -> ProductSentiment:
        """Return what a storefront shows; the tally must hold a review."""
        new_reviews = sum(reviews for reviews, _ in self.newest_days[:TREND_DAYS])
        new_score = sum(score for _, score in self.newest_days[:TREND_DAYS])
        old_reviews, old_score = self.reviews - new_reviews, self.score_micro - new_score
        trend = None
        if new_reviews > 0 and old_reviews > 0:
            trend = (new_score / new_reviews - old_score / old_reviews) / _MICRO
        return ProductSentiment(
            product_id=product_id,
            reviews=self.reviews,
            negative=self.negative,
            neutral=self.neutral,
            positive=self.positive,
            mean=round(self.score_micro / self.reviews / _MICRO, 6),
            trend=None if trend is None else round(trend, 6),
        )
