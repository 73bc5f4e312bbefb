"""A recording of any length, quickly: a small shop's events by the million, one file after another.

The simulated shop writes a few thousand events a second; a log of ten million needs more. Here the
same few thousand shoppers go on searching, buying and reviewing the same products; only ids and
times are new, as in a real log.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime

import orjson

from worker.embedded.shop.simulated_shop import SimulatedShop
from worker.events.event import EventKind

Recorded = tuple[EventKind, bytes | None, bytes | None, int]
START_S = 1_750_000_000
EVENTS_A_SECOND = 4  # ten million are a month
_TEMPLATES = 5_000
_NEW = "\\u0001"  # stands where an id must be new


def long_log(count: int, shoppers: int) -> Iterator[Recorded]:
    """Yield a catalogue and `count` events of so many shoppers, as `write_recording` takes them."""
    shop = SimulatedShop(shopper_count=shoppers)
    for one in shop.catalogue():
        yield one.kind, one.key, one.value, int(one.occurred_at.timestamp() * 1000)
    templates = list(_templates(shop))
    number = 0
    for second in itertools.count(START_S):
        moment = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        for part in range(EVENTS_A_SECOND):
            if number >= count:
                return
            kind, rest = templates[(number * 7_919) % len(templates)]
            user = f"s{(number * 104_729 + number // 977) % shoppers}"
            number += 1
            at_ms = part * 1_000 // EVENTS_A_SECOND
            value = (
                f'{{"event_id":"l{number}","occurred_at":"{moment}.{at_ms:03d}Z",'
                f'"user_id":"{user}",{rest.replace(_NEW, str(number))}'
            )
            yield kind, user.encode(), value.encode(), second * 1_000 + at_ms


def _templates(shop: SimulatedShop) -> Iterator[tuple[EventKind, str]]:
    """Yield what shoppers do, without who, when and the ids that must be new each time."""
    shopper_kinds = {EventKind.SEARCH, EventKind.PURCHASE, EventKind.REVIEW, EventKind.QUESTION}
    chosen = (one for one in shop.events() if one.valid and one.kind in shopper_kinds)
    for one in itertools.islice(chosen, _TEMPLATES):
        content = {
            key: value
            for key, value in one.content().items()
            if key not in ("event_id", "occurred_at", "user_id", "session_id", "shown")
        }
        for key in ("order_id", "review_id", "question_id"):
            if key in content:
                content[key] = f"{key}-{_NEW}"
        yield one.kind, orjson.dumps(content).decode()[1:]
