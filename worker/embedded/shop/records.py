"""What the simulated shop gives: events as bytes, each with what is true about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from worker.embedded.shop.vocabulary import Stars
from worker.events.event import EventKind


@dataclass(frozen=True, slots=True)
class Wish:
    """What a search means: a category, and what else was asked for in words."""

    text: str
    category_id: str
    traits: tuple[str, ...] = ()
    brand: str | None = None
    price: Literal["cheap", "dear"] | None = None


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a review means."""

    sentiment: Stars
    stars: int


@dataclass(frozen=True, slots=True)
class ExpectedAnswer:
    """Where the answer of a question stands; `source` None: nowhere, "no answer" is right."""

    source: Literal["product", "faq"] | None
    id: str | None = None  # of the product or of the FAQ entry
    text: str | None = None  # the sentence of the description that answers


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a record is no valid event: the code that its dead letter must carry."""

    code: str


Truth = Wish | Opinion | ExpectedAnswer | Fault


@dataclass(frozen=True, slots=True)
class SimulatedEvent:
    """One record for Kafka. `result_id` is what its result stands under, where it has one.

    That is the event id of a search, the user of a purchase or return, the review, the question and
    the product. A tombstone of a product has no value, and its event id is empty.
    """

    kind: EventKind
    key: bytes | None
    value: bytes | None
    event_id: str
    occurred_at: datetime
    result_id: str
    user_id: str | None = None
    truth: Truth | None = None

    @property
    def valid(self) -> bool:
        """Whether this is an event, not a record made wrong on purpose."""
        return not isinstance(self.truth, Fault)

    def content(self) -> dict[str, Any]:
        """Return the fields of a valid event; none for a tombstone."""
        fields: dict[str, Any] = {} if self.value is None else orjson.loads(self.value)
        return fields


def whole_ms(moment: datetime) -> datetime:
    """Return the moment cut to whole milliseconds, as much as events carry."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def rfc3339(moment: datetime) -> str:
    """Return a time as events carry it: UTC, milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def event_bytes(fields: dict[str, Any]) -> bytes:
    """Return the JSON of an event; fields that are None are left out."""
    return orjson.dumps({name: value for name, value in fields.items() if value is not None})
