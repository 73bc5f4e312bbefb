"""Histories decoded once: a shopper in a visit sends event after event, and each reads the history.

A cached history is taken over as far as the new reply continues it (its first members may have been
cut off, new ones appended); all else is decoded anew, so the outcome never depends on the cache.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import orjson

from models.recommendation.shopper import ShopperEvent
from worker.store.codec import decode_history_member, distinct_events

MAX_CACHED_EVENTS = 50_000
"""About 50 MB; 250 full histories, or the visits of thousands of shoppers."""


class _Cached(NamedTuple):
    text: bytes  # members joined by commas
    events: list[ShopperEvent]  # one a member


class HistoryCache:
    """Decodes the joined members of a history; least recently used shoppers leave first."""

    def __init__(self, max_events: int = MAX_CACHED_EVENTS) -> None:
        self._max_events = max_events
        self._count = 0
        self._histories: OrderedDict[str, _Cached] = OrderedDict()

    def decode(self, user_id: str, text: bytes) -> Sequence[ShopperEvent]:
        """Return the events of a history, oldest first, one an event id."""
        cached = self._histories.pop(user_id, None)
        if cached is not None:
            self._count -= len(cached.events)
        if not text:
            return []
        events = _continue(cached, text) if cached is not None else _decode(text)
        self._histories[user_id] = _Cached(text, events)
        self._count += len(events)
        while self._count > self._max_events:
            _, oldest = self._histories.popitem(last=False)
            self._count -= len(oldest.events)
        return distinct_events(events)


def _decode(text: bytes) -> list[ShopperEvent]:
    return [decode_history_member(fields) for fields in orjson.loads(b"[%b]" % text)]


def _continue(cached: _Cached, text: bytes) -> list[ShopperEvent]:
    # A member begins with its id and time, which no text inside a member can look like: there,
    # quotes are escaped, and what follows an id in a list is no number.
    beginning = text[: text.index(b",", text.index(b",") + 1) + 1]
    start = cached.text.find(beginning)
    kept = cached.text[start:]
    if start < 0 or not text.startswith(kept) or text[len(kept) : len(kept) + 1] not in (b"", b","):
        return _decode(text)
    event_id, occurred_at_ms = orjson.loads(beginning[:-1] + b"]")
    first = (occurred_at_ms, event_id)
    place = next((n for n, event in enumerate(cached.events) if event.order == first), None)
    if place is None:
        return _decode(text)
    added = text[len(kept) + 1 :]
    return cached.events[place:] + (_decode(added) if added else [])
