"""The labeled samples a worker writes and training reads: one JSON object each.

`sample_id` is deterministic: the same events give the same id whatever is delivered twice, so
readers keep the newest record of an id. Users are pseudonyms (keyed hash) and texts are masked
before they come here. A return sends a `ReversalSample` whose `label_keys` name the lines it takes
back, and a forget request a `ForgetSample`; readers drop what these name.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


def sample_id(*parts: str) -> str:
    """Return a deterministic id of the parts: 32 hexadecimal digits."""
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=16).hexdigest()


class _Sample(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    sample_id: str
    occurred_at: str = Field(description="Of the event that gave the label, RFC 3339, UTC.")
    user: str = Field(description="Pseudonym: keyed hash of the user id.")
    locale: str | None = None


class SearchSample(_Sample):
    """A search and one product bought after it; what was shown and not bought are the negatives."""

    kind: Literal["search"] = "search"
    query: str
    positive: str
    negatives: list[str]
    shown: list[str] = Field(description="As shown, in order, for position-bias weights.")
    search_event_id: str
    label_key: str


class HistoryItem(BaseModel):
    """One step of a next-item sequence."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Literal["search", "purchase", "return", "review", "question"]
    occurred_at_ms: int
    query: str | None = None
    product_ids: list[str] = []
    stars: float | None = None


class NextItemSample(_Sample):
    """What a shopper did, oldest first, and what the shopper bought next."""

    kind: Literal["next-item"] = "next-item"
    history: list[HistoryItem]
    next_products: list[str]
    label_keys: list[str]


class ReviewSample(_Sample):
    """A review's text with its stars."""

    kind: Literal["review"] = "review"
    product_id: str
    text: str
    stars: float


class AnswerSample(_Sample):
    """A question with the passage that answered it."""

    kind: Literal["answer"] = "answer"
    question: str
    product_id: str | None
    answer: str
    source_kind: Literal["product", "review", "faq"]
    source_id: str
    confidence: float


class ReversalSample(_Sample):
    """Takes labels back: the lines of an order that were returned."""

    kind: Literal["reversal"] = "reversal"
    label_keys: list[str]


class ForgetSample(_Sample):
    """The shopper behind this pseudonym is forgotten until `occurred_at`."""

    kind: Literal["forget"] = "forget"


Sample = Annotated[
    SearchSample | NextItemSample | ReviewSample | AnswerSample | ReversalSample | ForgetSample,
    Field(discriminator="kind"),
]
SAMPLE_ADAPTER: TypeAdapter[Sample] = TypeAdapter(Sample)
