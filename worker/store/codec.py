"""How state is spelled in Redis: members of a history, records with a version, votes, intents.

Both stores keep these very bytes, so they cut, order and compare alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from models.recommendation.shopper import ShopperEvent
from worker.store.contract import PutReview, ReviewText, SentimentCount, Version
from worker.store.limits import HISTORY_IDS, HISTORY_QUERY_CHARS
from worker.store.results import version_text

_VERSION_START = len(b'{"version":"')
_STEP = re.compile(rb'","step":(\d+)')
_EMPTY_PLACES = (None,) * 9


def encode_history_member(event: ShopperEvent) -> bytes:
    """Spell an event as `[event id, ms, kind, query, products, shown, stars, order, session]`.

    Empty places at the end are left out; long queries and lists are cut (`HISTORY_…` in limits.py).
    The id stands first, so equal times order by event id in a sorted set.
    """
    fields: list[Any] = [
        event.event_id,
        event.occurred_at_ms,
        event.kind,
        event.query[:HISTORY_QUERY_CHARS] if event.query is not None else None,
        event.product_ids[:HISTORY_IDS] or None,
        event.shown[:HISTORY_IDS] or None,
        event.stars,
        event.order_id,
        event.session_id,
    ]
    while fields[-1] is None:
        fields.pop()
    return orjson.dumps(fields)


def decode_json(text: bytes) -> Any:
    """Parse JSON that a store wrote."""
    return orjson.loads(text)


def decode_history_member(fields: Sequence[Any]) -> ShopperEvent:
    """Read the fields of one member back."""
    # positional and without loops: a batch reads thousands of these
    padded = [*fields, *_EMPTY_PLACES[len(fields) :]]
    event_id, occurred_at_ms, kind, query, products, shown, stars, order_id, session_id = padded
    return ShopperEvent(
        occurred_at_ms,
        event_id,
        kind,
        query,
        tuple(products) if products else (),
        tuple(shown) if shown else (),
        stars,
        order_id,
        session_id,
    )


def distinct_events(events: Iterable[ShopperEvent]) -> list[ShopperEvent]:
    """Keep one event an id, the last of those given; the set keeps all spellings, in a fixed order.

    So when a shop uses an event id twice, the newest by time counts, whatever came first.
    """
    by_id: dict[str, ShopperEvent] = {}
    for event in events:
        by_id.pop(event.event_id, None)
        by_id[event.event_id] = event
    return list(by_id.values())


def parse_version(text: str) -> Version:
    """Read `version_text` back."""
    occurred_at_ms, _, event_id = text.partition(":")
    return Version(int(occurred_at_ms), event_id)


def version_of_record(record: bytes) -> Version:
    """Read the version of a result or a record of state: it is its first member."""
    end = record.index(b'"', _VERSION_START)
    return parse_version(record[_VERSION_START:end].decode())


def step_of_record(record: bytes) -> int:
    """Read the step of the batch that made a result: its second member; 0 where it has none."""
    end = record.index(b'"', _VERSION_START)
    found = _STEP.match(record, end)
    return int(found[1]) if found is not None else 0


def place_of_record(record: bytes) -> tuple[Version, int]:
    """Return what orders the results of one key: the event's version, then the batch's step."""
    return version_of_record(record), step_of_record(record)


def encode_product(version: Version, text: str | None) -> bytes:
    """Spell a product's record; `text` is JSON already, None says that it was removed."""
    return f'{{"version":"{version_text(version)}","product":{text or "null"}}}'.encode()


def decode_product(record: bytes) -> str | None:
    """Return the product's JSON as it was put, or None when it was removed."""
    start = record.index(b'"', _VERSION_START) + len(b'","product":')
    text = record[start:-1].decode()
    return None if text == "null" else text


def encode_review(review: PutReview) -> bytes:
    """Spell a review's record."""
    return orjson.dumps(
        {
            "version": version_text(review.version),
            "review_id": review.review_id,
            "product_id": review.product_id,
            "user_id": review.user_id,
            "text": review.text,
            "stars": review.stars,
        }
    )


def decode_review(fields: Mapping[str, Any]) -> ReviewText:
    """Read what answers need of a review's record."""
    return ReviewText(
        review_id=fields["review_id"],
        occurred_at_ms=parse_version(fields["version"]).occurred_at_ms,
        text=fields["text"],
        stars=fields["stars"],
    )


def encode_vote(version: Version, step: int, vote: SentimentCount) -> bytes:
    """Spell a review's vote, which guards its product's counters."""
    return orjson.dumps(
        {
            "version": version_text(version),
            "step": step,
            "product_id": vote.product_id,
            "label": vote.label,
            "score_micro": vote.score_micro,
            "day": vote.day,
        }
    )


def decode_vote(record: bytes) -> SentimentCount:
    """Read a review's vote back."""
    fields = orjson.loads(record)
    return SentimentCount(
        fields["product_id"], fields["label"], fields["score_micro"], fields["day"]
    )


def encode_intent(sequence: int, intent: bytes) -> bytes:
    """Spell a batch's intent with its place in the order of all batches."""
    return b'{"sequence":%d,"intent":%b}' % (sequence, intent)
