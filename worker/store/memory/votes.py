"""Products' sentiment counters in memory, guarded by each review's vote."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field

from worker.store.codec import decode_vote, encode_vote, place_of_record
from worker.store.contract import Sentiment, SentimentCount, Version
from worker.store.limits import SENTIMENT_DAYS, TREND_DAYS
from worker.store.tally import SentimentTally

VOTE = "vote"
Place = tuple[Version, int]  # of a result: its event's version, then its batch's step


@dataclass(slots=True)
class _Counters:
    labels: dict[Sentiment, int] = field(
        default_factory=lambda: {"negative": 0, "neutral": 0, "positive": 0}
    )
    score_micro: int = 0
    days: dict[int, tuple[int, int]] = field(default_factory=dict)


class Votes:
    """One vote a review; a newer one takes the old one back."""

    def __init__(self, votes: MutableMapping[str, bytes]) -> None:
        """Keep each review's vote in `votes`, spelled as in Redis."""
        self._votes = votes
        self._counters: dict[str, _Counters] = {}

    def is_older(self, review_id: str, place: Place) -> bool:
        """Say whether the review voted with a newer version, or in a later step, already."""
        standing = self._votes.get(review_id)
        return standing is not None and place_of_record(standing) > place

    def replace(self, review_id: str, place: Place, vote: SentimentCount) -> None:
        """Count the vote in place of the one that stands."""
        record = bytes(memoryview(encode_vote(*place, vote)))  # without orjson's spare room
        standing = self._votes.get(review_id)
        if standing == record:
            return
        if standing is not None:
            self._count(decode_vote(standing), -1)
        self._count(vote, 1)
        self._votes[review_id] = record

    def tally(self, product_id: str) -> SentimentTally | None:
        """Return a product's counters."""
        counters = self._counters.get(product_id)
        if counters is None:
            return None
        newest = sorted(counters.days, reverse=True)[:TREND_DAYS]
        return SentimentTally(
            negative=counters.labels["negative"],
            neutral=counters.labels["neutral"],
            positive=counters.labels["positive"],
            score_micro=counters.score_micro,
            newest_days=tuple(counters.days[day] for day in newest),
        )

    def _count(self, vote: SentimentCount, sign: int) -> None:
        counters = self._counters.setdefault(vote.product_id, _Counters())
        counters.labels[vote.label] += sign
        counters.score_micro += sign * vote.score_micro
        reviews, score = counters.days.pop(vote.day, (0, 0))
        if reviews + sign > 0:
            counters.days[vote.day] = (reviews + sign, score + sign * vote.score_micro)
        if len(counters.days) > SENTIMENT_DAYS:
            del counters.days[min(counters.days)]
