"""How a comparison cuts its events: into windows that are encoded ahead, and those into parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from worker.events.event import Product, ProductRemoved
from worker.replay.prefetch import text_size
from worker.replay.recordings.merge import RecordedEvent

_WINDOW_EVENTS = 1_024
_PRODUCTS_AT_ONCE = 256


def window_of(events: Iterator[RecordedEvent], most_characters: int) -> list[RecordedEvent]:
    """Return the next events, with about so much text for the device."""
    window: list[RecordedEvent] = []
    characters = 0
    for one in events:
        window.append(one)
        characters += text_size(one.event)
        if len(window) >= _WINDOW_EVENTS or characters > most_characters:
            break
    return window


def parts_of(window: Sequence[RecordedEvent], from_ms: int) -> Iterator[list[RecordedEvent]]:
    """Cut a window where products, warm-up and judged events take turns."""
    part: list[RecordedEvent] = []
    kind: tuple[bool, bool] | None = None
    for one in window:
        is_product = isinstance(one.event, Product | ProductRemoved)
        this = (is_product, not is_product and one.at_ms < from_ms)
        if part and (this != kind or len(part) >= _PRODUCTS_AT_ONCE):
            yield part
            part = []
        part.append(one)
        kind = this
    if part:
        yield part
