"""How a comparison cuts its events into batches, and those into windows that are encoded ahead.

Batches follow from the events alone, never from how fast the device is: a replay's second run cuts
as the first did. A batch of judged events knows nothing of the future, for none of its events
reads what a later one of them changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from worker.events.decode import InvalidEvent
from worker.events.event import (
    Event,
    Forget,
    Product,
    ProductRemoved,
    Purchase,
    Question,
    Return,
    Review,
)
from worker.replay.prefetch import text_size
from worker.replay.recordings.merge import RecordedEvent

Kind = Literal["products", "warm-up", "judged"]
_WINDOW_EVENTS = 1_024
_MOST: dict[Kind, int] = {"products": 256, "warm-up": 256, "judged": 64}


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events that are worked on together."""

    kind: Kind
    events: Sequence[RecordedEvent]
    is_cut: bool = False  # the events ended here, perhaps in the midst of it


def batches_of(
    events: Iterable[RecordedEvent], from_ms: int, *, one_by_one: bool = False
) -> Iterator[EventBatch]:
    """Cut events in the order of time; from `from_ms` on they are judged, perhaps one by one."""
    kind: Kind = "warm-up"
    batch: list[RecordedEvent] = []
    together = IndependentEvents()
    for one in events:
        this = _kind_of(one, from_ms)
        most = 1 if one_by_one and this == "judged" else _MOST[kind]
        fits = this == kind and len(batch) < most
        if batch and not (fits and (this != "judged" or together.may_join(one.event))):
            yield EventBatch(kind, batch)
            batch, together = [], IndependentEvents()
        kind = this
        batch.append(one)
        if this == "judged":
            together.join(one.event)
    if batch:
        yield EventBatch(kind, batch, is_cut=True)


def window_of(batches: Iterator[EventBatch], most_characters: int) -> list[EventBatch]:
    """Return the next batches, with about so much text for the device."""
    window: list[EventBatch] = []
    count = characters = 0
    for batch in batches:
        window.append(batch)
        count += len(batch.events)
        characters += sum(text_size(one.event) for one in batch.events)
        if count >= _WINDOW_EVENTS or characters > most_characters:
            break
    return window


class IndependentEvents:
    """What the events of a batch read of the state; all of it is read after all have changed it."""

    def __init__(self) -> None:
        self._shoppers: set[str] = set()  # whose histories are read
        self._products: set[str] = set()  # whose texts and reviews are read
        self._reads_demand = False
        self._is_alone = False

    def may_join(self, event: Event | InvalidEvent) -> bool:
        """Say whether an event changes nothing that the events before it read."""
        if isinstance(event, InvalidEvent):
            return True
        if self._is_alone or isinstance(event, Forget | Product | ProductRemoved):
            return False
        if event.user_id in self._shoppers:
            return False
        if isinstance(event, Purchase | Return):
            return not self._reads_demand
        return not (isinstance(event, Review) and event.product_id in self._products)

    def join(self, event: Event | InvalidEvent) -> None:
        """Note what an event reads."""
        if isinstance(event, InvalidEvent):
            return
        if isinstance(event, Forget | Product | ProductRemoved):
            self._is_alone = True
        elif isinstance(event, Question):
            self._products.update({event.product_id} if event.product_id else ())
        else:
            self._shoppers.add(event.user_id)
            self._reads_demand = True


def _kind_of(one: RecordedEvent, from_ms: int) -> Kind:
    if isinstance(one.event, Product | ProductRemoved):
        return "products"
    return "judged" if one.at_ms >= from_ms else "warm-up"
