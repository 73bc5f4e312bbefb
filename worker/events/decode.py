"""Raw bytes become an `Event` or an `InvalidEvent`: one function, and it never raises.

Decoding is strict: what the exported JSON Schemas say is what is accepted (no number in quotes,
no time without zone). Of a JSON name that stands twice the last value counts, as in most parsers.
Time is compared with the record's own timestamp, never with a clock, so that a replay decides as
the live run did.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from worker.events.event import (
    EVENT_TYPES,
    LATEST_YEAR,
    Event,
    EventKind,
    ProductRemoved,
)
from worker.events.reason import schema_reason


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A Kafka record as it came; `timestamp_ms` is the record's own time (-1: it has none)."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class EventLimits:
    """What an event may be at most; the settings of the same names fill it."""

    max_event_bytes: int = 1_000_000
    max_text_chars: int = 20_000
    max_future_s: float = 300.0


@dataclass(frozen=True, slots=True)
class InvalidEvent:
    """What could not become an event: `code` for machines, `reason` for the person who mends it.

    Codes: unknown_topic, empty, too_large, invalid_json, schema, text_too_long, key_missing,
    key_mismatch, future, undecodable.
    """

    raw: RawRecord
    kind: EventKind | None
    code: str
    reason: str


_KEY_FIELDS = dict.fromkeys(EventKind, "user_id") | {EventKind.PRODUCT: "product_id"}
_TEXT_FIELDS: dict[EventKind, tuple[str, ...]] = {
    EventKind.SEARCH: ("query",),
    EventKind.REVIEW: ("text",),
    EventKind.QUESTION: ("text",),
    EventKind.PRODUCT: ("title", "description", "category", "brand"),
}
_VALIDATORS = {kind: event.__pydantic_validator__ for kind, event in EVENT_TYPES.items()}
_MAX_TIME_MS = round(datetime(LATEST_YEAR + 1, 1, 1, tzinfo=UTC).timestamp() * 1000) - 1


def decode_event(
    kind: EventKind | None, raw: RawRecord, limits: EventLimits
) -> Event | InvalidEvent:
    """Return the event that a record holds, or why it holds none; never raises.

    `kind` is what the record's topic carries (`TopicLayout.kind_of`; None: no event topic).
    A product record with a key and no value is a tombstone and becomes `ProductRemoved`.
    """
    if kind is None:
        return InvalidEvent(
            raw, None, "unknown_topic", f"topic {raw.topic!r} carries no kind of event"
        )
    try:
        return _decode(kind, raw, limits)
    except Exception as error:  # one poison record must never stop a worker
        return InvalidEvent(
            raw, kind, "undecodable", f"decoding failed: {type(error).__name__}: {error}"
        )


def _decode(kind: EventKind, raw: RawRecord, limits: EventLimits) -> Event | InvalidEvent:
    value = raw.value
    if value is None:
        return _decode_tombstone(kind, raw)
    if len(value) > limits.max_event_bytes:
        return InvalidEvent(
            raw,
            kind,
            "too_large",
            f"the event has {len(value)} bytes; the limit is {limits.max_event_bytes} "
            "(SHOPSTREAM_MAX_EVENT_BYTES)",
        )
    if not value.strip():
        return InvalidEvent(
            raw, kind, "empty", f"the value is empty; send a {kind} as a JSON object"
        )
    try:
        event: Any = _VALIDATORS[kind].validate_json(value, strict=True)
    except ValidationError as error:
        return InvalidEvent(raw, kind, *schema_reason(error, value))
    fault = (
        _long_text(kind, event, limits.max_text_chars)
        or _wrong_key(kind, raw.key, getattr(event, _KEY_FIELDS[kind]))
        or _future(event.occurred_at, raw.timestamp_ms, limits.max_future_s)
    )
    return event if fault is None else InvalidEvent(raw, kind, *fault)


def _decode_tombstone(kind: EventKind, raw: RawRecord) -> Event | InvalidEvent:
    if kind is not EventKind.PRODUCT:
        return InvalidEvent(
            raw,
            kind,
            "empty",
            f"the record has no value; only products have tombstones, not a {kind}",
        )
    if not raw.key:
        return InvalidEvent(
            raw,
            kind,
            "key_missing",
            "a tombstone needs the product_id as its key to say what it removes",
        )
    if not 0 <= raw.timestamp_ms <= _MAX_TIME_MS:
        return InvalidEvent(
            raw, kind, "schema", "a tombstone needs a record timestamp (ms since 1970)"
        )
    try:
        removed = ProductRemoved(
            event_id=f"tombstone:{raw.topic}:{raw.partition}:{raw.offset}"[-128:],
            occurred_at=datetime.fromtimestamp(raw.timestamp_ms / 1000, UTC),
            product_id=raw.key.decode(),
        )
    except (ValidationError, UnicodeDecodeError):
        return InvalidEvent(
            raw, kind, "schema", "the key of the tombstone is not a valid product_id"
        )
    return (
        removed
        if removed.product_id.encode() == raw.key
        else InvalidEvent(
            raw, kind, "key_mismatch", "the key of the tombstone has blanks around the product_id"
        )
    )


def _long_text(kind: EventKind, event: Any, max_chars: int) -> tuple[str, str] | None:
    for name in _TEXT_FIELDS.get(kind, ()):
        length = len(getattr(event, name))
        if length > max_chars:
            return "text_too_long", (
                f"{name} has {length} characters; the limit is {max_chars} "
                "(SHOPSTREAM_MAX_TEXT_CHARS)"
            )
    return None


def _wrong_key(kind: EventKind, key: bytes | None, expected: str) -> tuple[str, str] | None:
    # Histories are sound only if all events of a shopper meet in one worker, and the key alone
    # decides the partition: a record without the right key may stand in any of them.
    name = _KEY_FIELDS[kind]
    if key is None:
        return "key_missing", f"the record has no key; send it with its {name} as the key"
    if key != expected.encode():
        return (
            "key_mismatch",
            f"the record's key is not its {name}; send it with its {name} as the key",
        )
    return None


def _future(
    occurred_at: datetime, timestamp_ms: int, max_future_s: float
) -> tuple[str, str] | None:
    if timestamp_ms < 0:  # a broker of old kept no time: nothing to compare with
        return None
    ahead_s = occurred_at.timestamp() - timestamp_ms / 1000
    if ahead_s <= max_future_s:
        return None
    return "future", (
        f"occurred_at lies {ahead_s:.0f} s after the record's own time; at most "
        f"{max_future_s:.0f} s are allowed (SHOPSTREAM_MAX_FUTURE_S): "
        "check the sender's clock and zone"
    )
