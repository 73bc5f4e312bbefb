"""The JSON that stands in Redis, as pydantic models: what storefronts read.

The first member of every result is `version`, zero-padded so that a script can compare two results
without parsing them: `"<16 digits of occurred_at in ms>:<event id>"`. The second, `step`, decides
where two batches took one event.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.store.contract import Sentiment, Version


def version_text(version: Version) -> str:
    """Return the version as it stands in results: comparable as a string."""
    return f"{version.occurred_at_ms:016d}:{version.event_id}"


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str = Field(description="Orders results of one key; compare as text.")
    step: int = Field(
        default=0,
        description="The step of its batch on the state store; orders results of one version.",
    )
    event_id: str = Field(
        description="The event that caused this result; of a shopper's list the newest it knows."
    )
    occurred_at: str = Field(description="When that event happened, RFC 3339, UTC.")
    written_at: str = Field(description="When the worker made this result, RFC 3339, UTC.")
    release: str = Field(description="The model release that made it.")
    batch_id: str = Field(description="The batch that made it, as in the topic of batches.")
    arm: Literal["current", "candidate"] | None = Field(
        default=None, description="The shopper's arm of an A/B trial; null when none runs."
    )


class ReasonJson(BaseModel):
    """Why an item stands there."""

    kind: Literal["bought", "searched", "together", "popular", "matches"]
    text: str
    because: list[str] = Field(default_factory=list)


class RankedItem(BaseModel):
    """One item of a list, best first."""

    product_id: str
    title: str
    score: float
    reason: ReasonJson


class Recommendations(_Result):
    """Products for a shopper."""

    user_id: str
    items: list[RankedItem]


class SearchResults(_Result):
    """Products for a query; stands under the search's event id and under the normalised query."""

    query: str
    items: list[RankedItem]


class ReviewTags(_Result):
    """What a review says."""

    review_id: str
    product_id: str
    sentiment: Sentiment
    confidence: float = Field(description="Calibrated probability of `sentiment`.")
    probabilities: dict[Sentiment, float]


class AnswerSource(BaseModel):
    """Where an answer was found."""

    kind: Literal["product", "review", "faq"]
    id: str


class AnswerResult(_Result):
    """The answer to a question, or none."""

    question_id: str
    question: str
    product_id: str | None
    answered: bool
    text: str | None = Field(description="The best passage; null when there is no answer.")
    source: AnswerSource | None
    confidence: float


class Trending(_Result):
    """What the whole shop buys now."""

    items: list[RankedItem]


class ProductSentiment(BaseModel):
    """A product's reviews, added up (computed by the lookup client from the counters)."""

    product_id: str
    reviews: int
    negative: int
    neutral: int
    positive: int
    mean: float = Field(description="Mean of p(positive) - p(negative), from -1 to 1.")
    trend: float | None = Field(
        description="Mean of the newest 30 days that have reviews less the mean before; "
        "null without both."
    )


class CurrentRelease(BaseModel):
    """What the workers serve, or are to change to between their next two batches."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    release: str
    since: str = Field(description="RFC 3339, UTC.")
    url: str = Field("", description="The release store; empty: the workers' own models.")
    earlier: list[str] = Field([], description="Releases served before, newest first.")
    candidate: str | None = Field(None, description="The other arm of a running A/B test.")
    share: float = Field(0.0, description="Share of shoppers the candidate serves, 0 to 1.")
