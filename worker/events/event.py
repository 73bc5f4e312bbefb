"""The events a shop sends, as JSON objects, one Kafka topic a kind.

All but products are keyed by `user_id`, products by `product_id`, so that a shopper's events of all
kinds meet in one worker (the topics are co-partitioned). Unknown fields are ignored, never fatal.
Source of the contract: README, "Events".
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

MAX_ID_LENGTH = 128
MAX_LIST_LENGTH = 1_000
LATEST_YEAR = 2999  # keeps every later sum of times inside what datetime can hold

_TEXT_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class EventKind(StrEnum):
    """The kinds of events; the value is the singular used on the command line and in records."""

    SEARCH = "search"
    PURCHASE = "purchase"
    RETURN = "return"
    REVIEW = "review"
    QUESTION = "question"
    PRODUCT = "product"
    FORGET = "forget"


def _replace_controls(value: str) -> str:
    """Blank out control characters but tab and line ends: people paste them, models drop them."""
    if not _TEXT_CONTROLS.search(value):
        return value
    return _TEXT_CONTROLS.sub(" ", value).strip()


def _not_blank(value: str) -> str:
    if not value:
        raise ValueError("must not be empty")
    return value


_EXAMPLE_TIME = "2025-01-31T12:00:00Z"


def _read_time(value: object) -> datetime:
    # Not left to pydantic: it reads digits as Unix seconds or milliseconds, by their size: a guess.
    if isinstance(value, datetime):
        return value
    if isinstance(value, str) and value[4:5] == "-" and value[10:11] in ("T", "t", " "):
        try:
            return datetime.fromisoformat(value.upper())
        except ValueError:
            pass
    raise ValueError(f"must be a time with zone, such as {_EXAMPLE_TIME}")


def _in_range(value: datetime) -> datetime:
    if not 1970 <= value.year <= LATEST_YEAR or value.timestamp() < 0:
        raise ValueError(f"must lie between the years 1970 and {LATEST_YEAR}")
    return value.astimezone(UTC)


Id = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=MAX_ID_LENGTH,
        strip_whitespace=True,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]*$",  # no control characters
    ),
]
EventId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_ID_LENGTH, pattern=r"^[A-Za-z0-9._:~@/+=-]+$"),
]
Locale = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*$")]
OptionalText = Annotated[
    str, StringConstraints(strip_whitespace=True), AfterValidator(_replace_controls)
]
Text = Annotated[
    str,
    StringConstraints(min_length=1, strip_whitespace=True),
    AfterValidator(_replace_controls),
    AfterValidator(_not_blank),
]
Moment = Annotated[AwareDatetime, BeforeValidator(_read_time), AfterValidator(_in_range)]
Price = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    event_id: EventId = Field(
        description="Unique for ever; a second event with this id is a repeat."
    )
    occurred_at: Moment = Field(description="When it happened, RFC 3339 with zone.")
    locale: Locale | None = Field(default=None, description="BCP 47 tag such as en-US or zh-CN.")

    @property
    def occurred_at_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return round(self.occurred_at.timestamp() * 1000)


class _ShopperEvent(_Event):
    user_id: Id = Field(description="The shopper; the Kafka key.")
    session_id: Id | None = Field(default=None, description="The visit, when the shop knows it.")


class Search(_ShopperEvent):
    """A shopper searched."""

    kind: ClassVar[Literal[EventKind.SEARCH]] = EventKind.SEARCH
    query: Text = Field(description="What was typed.")
    shown: list[Id] = Field(
        default_factory=list,
        max_length=MAX_LIST_LENGTH,
        description="Product ids the page showed, in order (impressions); trains the ranking.",
    )


class Item(BaseModel):
    """One line of an order."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    product_id: Id
    quantity: int = Field(default=1, ge=1, le=1_000_000)
    price: Price | None = Field(default=None, description="Of one piece, in the shop's currency.")


class Purchase(_ShopperEvent):
    """A shopper bought."""

    kind: ClassVar[Literal[EventKind.PURCHASE]] = EventKind.PURCHASE
    order_id: Id
    items: list[Item] = Field(min_length=1, max_length=MAX_LIST_LENGTH)


class Return(_ShopperEvent):
    """A shopper sent items of an order back; reverses their labels."""

    kind: ClassVar[Literal[EventKind.RETURN]] = EventKind.RETURN
    order_id: Id
    items: list[Item] = Field(min_length=1, max_length=MAX_LIST_LENGTH)


class Review(_ShopperEvent):
    """A shopper reviewed a product; a newer event with the same `review_id` corrects it."""

    kind: ClassVar[Literal[EventKind.REVIEW]] = EventKind.REVIEW
    review_id: Id
    product_id: Id
    text: Text
    stars: float | None = Field(default=None, ge=1, le=5)


class Question(_ShopperEvent):
    """A shopper asked."""

    kind: ClassVar[Literal[EventKind.QUESTION]] = EventKind.QUESTION
    question_id: Id
    text: Text
    product_id: Id | None = Field(default=None, description="The product page it was asked on.")


class Product(_Event):
    """A product as the shop sells it now; a newer one replaces it, a tombstone removes it."""

    kind: ClassVar[Literal[EventKind.PRODUCT]] = EventKind.PRODUCT
    product_id: Id = Field(description="The Kafka key.")
    title: Text
    description: OptionalText = ""
    category: OptionalText = ""
    brand: OptionalText = ""
    price: Price | None = None
    available: bool = Field(default=True, description="False hides it from every result.")


class ProductRemoved(_Event):
    """The tombstone of a product: a record on the products topic with a key and no value."""

    kind: ClassVar[Literal[EventKind.PRODUCT]] = EventKind.PRODUCT
    product_id: Id


class Forget(_ShopperEvent):
    """A shopper wants to be forgotten: all that `user_id` did until `occurred_at`."""

    kind: ClassVar[Literal[EventKind.FORGET]] = EventKind.FORGET


ShopperEvent = Search | Purchase | Return | Review | Question | Forget
Event = ShopperEvent | Product | ProductRemoved

EVENT_TYPES: dict[
    EventKind, type[Search | Purchase | Return | Review | Question | Product | Forget]
] = {
    EventKind.SEARCH: Search,
    EventKind.PURCHASE: Purchase,
    EventKind.RETURN: Return,
    EventKind.REVIEW: Review,
    EventKind.QUESTION: Question,
    EventKind.PRODUCT: Product,
    EventKind.FORGET: Forget,
}
