"""Records made wrong on purpose, one of each kind of mistake that real senders make."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random

from worker.embedded.shop.records import Fault, SimulatedEvent, event_bytes, rfc3339
from worker.events.event import EventKind

_FUTURE = timedelta(days=2)


def broken_record(random: Random, event_id: str, user_id: str, now: datetime) -> SimulatedEvent:
    """Return a record that must become a dead letter, its code in `truth`."""
    search = {
        "event_id": event_id,
        "occurred_at": rfc3339(now),
        "user_id": user_id,
        "query": "headphones",
    }
    review = {**search, "review_id": event_id, "product_id": "p1000", "text": "Good", "stars": 9}
    order = {**search, "order_id": event_id, "items": [{"product_id": "p1000", "quantity": -1}]}
    key = user_id.encode()
    makers: list[Callable[[], tuple[EventKind, bytes | None, bytes | None, str]]] = [
        lambda: (EventKind.SEARCH, key, event_bytes(search)[:-9], "invalid_json"),
        lambda: (EventKind.SEARCH, key, event_bytes({**search, "query": None}), "schema"),
        lambda: (EventKind.SEARCH, key, b"", "empty"),
        lambda: (EventKind.SEARCH, b"someone-else", event_bytes(search), "key_mismatch"),
        lambda: (EventKind.SEARCH, None, event_bytes(search), "key_missing"),
        lambda: (
            EventKind.SEARCH,
            key,
            event_bytes({**search, "occurred_at": rfc3339(now + _FUTURE)}),
            "future",
        ),
        lambda: (EventKind.REVIEW, key, event_bytes(review), "schema"),
        lambda: (EventKind.PURCHASE, key, event_bytes(order), "schema"),
        lambda: (EventKind.QUESTION, key, "{'text': 'why?'}".encode("utf-16"), "invalid_json"),
    ]
    kind, record_key, value, code = random.choice(makers)()
    return SimulatedEvent(kind, record_key, value, event_id, now, event_id, user_id, Fault(code))
