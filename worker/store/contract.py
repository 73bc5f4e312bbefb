"""The state store's contract: two calls a batch, each atomic, both idempotent.

`apply` puts a batch's events into the state and reads, in the same step, all that its models need;
`write` puts results, only if newer. Redis runs each call as one script, so the steps of all workers
have one order, and `StateView.sequence` is a batch's place in it: a replay that applies the batches
in that order reads what the live run read. Values never depend on wall-clock time (TTLs aside).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple, Protocol

from models.recommendation.shopper import ShopperEvent
from worker.errors import ShopstreamError


class Version(NamedTuple):
    """What makes a result newer: the time of the event that caused it, then that event's id."""

    occurred_at_ms: int
    event_id: str


# --- changes, in the order of the batch's events -------------------------------------------------


@dataclass(frozen=True, slots=True)
class AddHistory:
    """Put one event into a shopper's capped history (idempotent by event id)."""

    user_id: str
    event: ShopperEvent


@dataclass(frozen=True, slots=True)
class CountPurchase:
    """Raise popularity and co-purchase once for this event id (guarded for `guard_ttl_s`).

    Popularity decays by half every `popularity_half_life_s` of event time. Co-purchase rows join
    the products of the order with each other, and the shopper's latest earlier purchases with them.
    """

    user_id: str
    version: Version
    quantities: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class CountReturn:
    """Take a purchase's popularity back, once for this event id; never below zero."""

    user_id: str
    version: Version
    quantities: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PutProduct:
    """Keep a product's own text for answers and look-ups, only if newer."""

    product_id: str
    version: Version
    text: str  # JSON of the product's fields


@dataclass(frozen=True, slots=True)
class RemoveProduct:
    """Drop a product's text (its reviews stay until they expire), only if newer."""

    product_id: str
    version: Version


@dataclass(frozen=True, slots=True)
class PutReview:
    """Keep a review's text for answers: capped per product, newest version of a review id wins."""

    product_id: str
    review_id: str
    user_id: str
    version: Version
    text: str
    stars: float | None


@dataclass(frozen=True, slots=True)
class ForgetUser:
    """Delete a shopper's history, results and review texts; events up to this are ignored."""

    user_id: str
    version: Version


StateChange = (
    AddHistory | CountPurchase | CountReturn | PutProduct | RemoveProduct | PutReview | ForgetUser
)


@dataclass(frozen=True, slots=True)
class StateStep:
    """One batch's step: its changes in order, then what to read.

    Changes of a forgotten shopper whose event is not newer than the forget request change nothing.
    """

    changes: Sequence[StateChange]
    read_users: Sequence[str] = ()  # histories, and the co-purchase rows of what they bought last
    read_products: Sequence[str] = ()  # product text and reviews, for questions
    popular_count: int = 0  # how many of the most popular products to read
    batch_id: str = ""
    intent: bytes = b""  # the batch's record as far as known; kept until `write` confirms the batch
    sequence: int = 0  # the step to be, where a replay repeats it; 0: the next one


@dataclass(frozen=True, slots=True)
class ReviewText:
    """A stored review of a product."""

    review_id: str
    occurred_at_ms: int
    text: str
    stars: float | None


@dataclass(frozen=True, slots=True)
class StateView:
    """What `apply` read, after its own changes."""

    sequence: int  # 1, 2, 3 … over all workers of one key prefix
    histories: Mapping[str, Sequence[ShopperEvent]] = field(default_factory=dict)  # oldest first
    forgotten: Mapping[str, Version] = field(default_factory=dict)  # of the users changed or read
    popular: Sequence[tuple[str, float]] = ()
    together: Mapping[str, Sequence[tuple[str, float]]] = field(default_factory=dict)
    product_texts: Mapping[str, str] = field(default_factory=dict)
    reviews: Mapping[str, Sequence[ReviewText]] = field(default_factory=dict)  # newest first


# --- results --------------------------------------------------------------------------------------


class ResultKind(StrEnum):
    """What stands in Redis; the value is the middle part of the key."""

    RECOMMENDATIONS = "recommendations"  # id: user
    SEARCH = "search"  # id: event id of the search
    QUERY = "query"  # id: normalised query
    TAGS = "tags"  # id: review
    ANSWER = "answer"  # id: question
    TRENDING = "trending"  # id: "all"


Sentiment = Literal["negative", "neutral", "positive"]


@dataclass(frozen=True, slots=True)
class SentimentCount:
    """A review's vote for its product; a corrected review takes its old vote back first."""

    product_id: str
    label: Sentiment
    score_micro: int  # (p(positive) - p(negative)) * 1e6: integers add up in any order
    day: int  # days since 1970 of the review, for the trend


@dataclass(frozen=True, slots=True)
class ResultWrite:
    """One result: JSON under a key, written only if it is not older than what stands.

    `value` begins with the members `version` and `step` (of the batch): both stores compare these.
    """

    kind: ResultKind
    id: str
    version: Version
    value: bytes
    ttl_s: int
    user_id: str | None = None  # the shopper it is forgotten with
    sentiment: SentimentCount | None = None  # with TAGS only


@dataclass(frozen=True, slots=True)
class WriteReport:
    """How many results were written, and how many stood already, newer or of a later step."""

    written: int
    older: int
    forgotten: int = 0


class StateStore(Protocol):
    """Histories, counters and results. Errors: `StoreUnavailable` when there is no answer."""

    async def apply(self, step: StateStep) -> StateView:
        """Apply the changes in order and read, as one atomic step."""
        ...

    async def write(
        self, results: Sequence[ResultWrite], *, batch_id: str = "", sequence: int = 0
    ) -> WriteReport:
        """Write results, only if newer, and drop the intent of `batch_id`.

        `sequence` is the step of their batch (0: unknown). Of two results of one version, which an
        event makes that two workers took, that of the later step stands; and a shopper's list made
        before a forget request did its step is refused. So it does not matter which comes first.
        """
        ...

    async def pending_intents(self) -> Mapping[str, bytes]:
        """Return batch id -> intent (with its sequence) of batches applied and never confirmed."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class StoreUnavailable(ShopstreamError):
    """The state store could not be reached or refused; the message says what to do."""
