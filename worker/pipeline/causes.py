"""What a shopper's list is made for: the batch's newest event, and the newest the shop knows of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.recommendation.shopper import ShopperEvent
from worker.events.event import Purchase, Return, Review, Search
from worker.pipeline.changes import version_of
from worker.pipeline.stages import LiveEvent
from worker.store.contract import Version


@dataclass(frozen=True, slots=True)
class Cause:
    """Why one shopper gets a new list, and what orders it among the shopper's lists."""

    event: Search | Purchase | Return | Review  # the newest of the batch
    # The newest event that the history holds: topics run beside each other, so that an event may
    # come after younger ones, and the list that knows both must stand above the one that does not.
    version: Version
    locale: str | None


def causes_of(
    live: Sequence[LiveEvent], histories: Mapping[str, Sequence[ShopperEvent]]
) -> dict[str, Cause]:
    """Return the cause of each shopper whose taste the batch changes; histories oldest first."""
    causes: dict[str, Cause] = {}
    for item in live:
        event = item.event
        if not isinstance(event, Search | Purchase | Return | Review):
            continue
        before, version = causes.get(event.user_id), version_of(event)
        if before is None:
            known = _newest(histories.get(event.user_id, ()))
            newest = version if known is None else max(known, version)
            causes[event.user_id] = Cause(event, newest, event.locale)
        elif version >= version_of(before.event):
            locale = event.locale or before.locale
            causes[event.user_id] = Cause(event, max(before.version, version), locale)
    return causes


def _newest(history: Sequence[ShopperEvent]) -> Version | None:
    """Return the newest event that speaks of taste: a question asks, it says nothing of it."""
    for event in reversed(history):
        if event.kind != "question":
            return Version(event.occurred_at_ms, event.event_id)
    return None
