"""Bytes become an event or a reason, whatever the bytes are."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.events.decode import EventLimits, InvalidEvent, RawRecord, decode_event
from worker.events.event import Event, EventKind, Product, ProductRemoved, Search

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
NOW_MS = round(NOW.timestamp() * 1000)
LIMITS = EventLimits(max_event_bytes=8_000, max_text_chars=100, max_future_s=60.0)
COMMON = {"event_id": "e-1", "occurred_at": "2025-06-01T11:59:00Z", "user_id": "u1"}
GOOD: dict[EventKind, dict[str, Any]] = {
    EventKind.SEARCH: {**COMMON, "query": "蓝牙耳机", "shown": ["p1", "p2"]},
    EventKind.PURCHASE: {**COMMON, "order_id": "o", "items": [{"product_id": "p", "price": 1.5}]},
    EventKind.RETURN: {**COMMON, "order_id": "o", "items": [{"product_id": "p", "quantity": 2}]},
    EventKind.REVIEW: {**COMMON, "review_id": "r", "product_id": "p", "text": "fine", "stars": 4},
    EventKind.QUESTION: {**COMMON, "question_id": "q", "text": "Does it fit?"},
    EventKind.PRODUCT: {**COMMON, "product_id": "p1", "title": "Headphones"},
    EventKind.FORGET: COMMON,
}


def raw(value: Any, key: bytes | None = b"u1", timestamp_ms: int = NOW_MS) -> RawRecord:
    data = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    return RawRecord("shop.searches", 3, 42, key, data, timestamp_ms)


def decode_search(**fields: Any) -> Event | InvalidEvent:
    return decode_event(EventKind.SEARCH, raw({**GOOD[EventKind.SEARCH], **fields}), LIMITS)


def fault(result: Event | InvalidEvent) -> tuple[str, str]:
    assert isinstance(result, InvalidEvent), result
    return result.code, result.reason


@pytest.mark.parametrize("kind", list(EventKind))
def test_good_event_of_every_kind_is_decoded(kind: EventKind) -> None:
    """An event of every kind with its key becomes that kind's model."""
    key = b"p1" if kind is EventKind.PRODUCT else b"u1"
    event = decode_event(kind, raw(GOOD[kind], key), LIMITS)
    assert not isinstance(event, InvalidEvent), event
    assert event.kind is kind
    assert event.occurred_at_ms == NOW_MS - 60_000


@pytest.mark.parametrize("kind", list(EventKind))
@settings(deadline=None)
@given(value=st.none() | st.binary(max_size=300), key=st.none() | st.binary(max_size=20))
@example(value=b"[" * 4_000, key=b"u1")
@example(value=b"\xff\xfe{\x00}\x00", key=b"\x00")
@example(value=b'{"event_id":"\\ud800"}', key=b"u1")
def test_any_bytes_give_an_event_or_a_reason(
    kind: EventKind, value: bytes | None, key: bytes | None
) -> None:
    """No bytes make the decoder raise; what is no event has a code and a reason."""
    result = decode_event(kind, RawRecord("t", 0, 0, key, value, NOW_MS), LIMITS)
    if isinstance(result, InvalidEvent):
        assert result.code
        assert result.reason
        assert result.code != "undecodable"
        assert result.raw.value == value
    else:
        assert isinstance(result, ProductRemoved)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", list(EventKind))
@settings(deadline=None)
@given(data=st.data())
def test_any_json_in_any_field_gives_an_event_or_a_reason(
    kind: EventKind, data: st.DataObject
) -> None:
    """A good event with any JSON put into any of its fields never makes the decoder raise."""
    names = [*GOOD[kind], "session_id", "locale", "description", "price", "available", "shown"]
    broken = {**GOOD[kind], data.draw(st.sampled_from(names)): data.draw(_JSON)}
    timestamp_ms = data.draw(st.sampled_from([NOW_MS, -1, 0, 2**62]))
    result = decode_event(kind, raw(broken, b"u1", timestamp_ms), LIMITS)
    if isinstance(result, InvalidEvent):
        assert result.reason
        assert result.code != "undecodable", result.reason


@settings(deadline=None)
@given(moment=st.datetimes(timezones=st.timezones()) | st.datetimes(timezones=st.just(UTC)))
def test_any_time_with_zone_is_taken_or_refused(moment: datetime) -> None:
    """A time with zone is read as that very moment in UTC, or refused by range or as future."""
    text = moment.isoformat()
    result = decode_search(occurred_at=text)
    if isinstance(result, Search):
        assert result.occurred_at == datetime.fromisoformat(text)  # of one offset, never ambiguous
        assert result.occurred_at.tzinfo is UTC
    else:
        assert fault(result)[0] in {"schema", "future"}


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        (b"", "empty", "empty"),
        (b" \n", "empty", "empty"),
        (b"\xef\xbb\xbf{}", "invalid_json", "byte-order mark"),
        ('{"a": 1}'.encode("utf-16"), "invalid_json", "UTF-16"),
        ('{"query": "耳机"}'.encode("gbk"), "invalid_json", "not UTF-8"),
        (b'{"query": "\xed\xa0\x80"}', "invalid_json", "not UTF-8"),
        (b'{"query": "\\ud800"}', "invalid_json", "not valid JSON"),
        (b'{"event_id": "e"} {}', "invalid_json", "trailing characters"),
        (b"{" * 1_000, "invalid_json", "not valid JSON"),
        (b"[" * 1_000 + b"]" * 1_000, "invalid_json", "recursion"),
        (b'{"stars": ' + b"9" * 4_400 + b"}", "invalid_json", "number out of range"),
        (b"null", "schema", "JSON object"),
        (b'["e"]', "schema", "JSON object"),
        (b"x" * 8_001, "too_large", "limit is 8000"),
    ],
)
def test_bytes_that_are_no_json_object_have_a_reason(value: bytes, code: str, words: str) -> None:
    """Wrong encodings, broken JSON, deep nesting and other JSON values each say what they are."""
    found_code, reason = fault(decode_event(EventKind.SEARCH, raw(value), LIMITS))
    assert found_code == code
    assert words in reason


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"query": None}, "query must be a text"),
        ({"query": " \t "}, "query must not be empty"),
        ({"query": "\x00\x01"}, "query must not be empty"),
        ({"event_id": "a b"}, "event_id has characters that are not allowed"),
        ({"user_id": "u\x001"}, "user_id has characters that are not allowed"),
        ({"user_id": "u" * 129}, "user_id must have at most 128 characters"),
        ({"user_id": 7}, "user_id must be a text"),
        ({"shown": ["p", ""]}, "shown[1] must not be empty"),
        ({"shown": ["p"] * 1_001}, "shown must have at most 1000 entries"),
        ({"shown": "p"}, "shown must be a list"),
        ({"locale": "english, please"}, "locale has characters"),
        ({"occurred_at": "2025-06-01T12:00:00"}, "occurred_at has no zone"),
        ({"occurred_at": "2025-06-01"}, "occurred_at must be a time with zone"),
        ({"occurred_at": 1_748_779_200}, "occurred_at must be a time with zone"),
        ({"occurred_at": "1748779200"}, "occurred_at must be a time with zone"),
        ({"occurred_at": "2025-02-30T12:00:00Z"}, "occurred_at must be a time with zone"),
        ({"occurred_at": "1969-12-31T23:59:59Z"}, "occurred_at must lie between"),
        ({"occurred_at": "9999-12-31T23:59:59-23:00"}, "occurred_at must lie between"),
        ({"query": 1, "user_id": 2, "locale": 3, "event_id": 4}, "and 1 more faults"),
    ],
)
def test_schema_faults_name_the_field_and_what_it_must_be(
    fields: dict[str, Any], words: str
) -> None:
    """A field that does not fit the schema is named with what it must be."""
    code, reason = fault(decode_search(**fields))
    assert code == "schema"
    assert words in reason


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({}, "items[0].product_id is missing"),
        ({"product_id": "p", "quantity": 0}, "items[0].quantity must be at least 1"),
        ({"product_id": "p", "quantity": "2"}, "items[0].quantity must be a whole number"),
        ({"product_id": "p", "quantity": True}, "items[0].quantity must be a whole number"),
        ({"product_id": "p", "quantity": 10**30}, "items[0].quantity must be"),
        ({"product_id": "p", "price": float("nan")}, "items[0].price must be a finite number"),
        ({"product_id": "p", "price": -1}, "items[0].price must be at least 0"),
        ({"product_id": "p", "price": 1e400}, "items[0].price must be a finite number"),
    ],
)
def test_faults_inside_an_item_are_named_with_their_path(item: dict[str, Any], words: str) -> None:
    """NaN, infinities, numbers in quotes and numbers out of range in an item are refused."""
    purchase = {**GOOD[EventKind.PURCHASE], "items": [item]}
    code, reason = fault(decode_event(EventKind.PURCHASE, raw(purchase), LIMITS))
    assert code == "schema"
    assert words in reason


def test_unknown_fields_are_kept_out() -> None:
    """A field that no event has is ignored, whatever it holds."""
    event = decode_search(campaign={"deep": [[1e308, None]]})
    assert isinstance(event, Search)
    assert not hasattr(event, "campaign")


def test_the_last_of_two_equal_names_counts() -> None:
    """Of a JSON name that stands twice the last value counts."""
    value = json.dumps(GOOD[EventKind.SEARCH])[:-1].encode() + b', "query": "second"}'
    event = decode_event(EventKind.SEARCH, raw(value), LIMITS)
    assert isinstance(event, Search)
    assert event.query == "second"


def test_control_characters_in_a_text_become_blanks() -> None:
    """Control characters inside a text are blanked out; tabs and line ends stay."""
    event = decode_search(query="a\x00b\tc\nd\x85e\x07")
    assert isinstance(event, Search)
    assert event.query == "a b\tc\nd e"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (EventKind.SEARCH, "query"),
        (EventKind.REVIEW, "text"),
        (EventKind.QUESTION, "text"),
        (EventKind.PRODUCT, "title"),
        (EventKind.PRODUCT, "description"),
    ],
)
def test_texts_beyond_the_limit_are_refused(kind: EventKind, name: str) -> None:
    """A text of the limit's length is taken; one character more is refused."""
    key = b"p1" if kind is EventKind.PRODUCT else b"u1"
    at_limit = decode_event(kind, raw({**GOOD[kind], name: "字" * 100}, key), LIMITS)
    assert not isinstance(at_limit, InvalidEvent)
    code, reason = fault(decode_event(kind, raw({**GOOD[kind], name: "字" * 101}, key), LIMITS))
    assert code == "text_too_long"
    assert reason.startswith(f"{name} has 101 characters")


def test_the_future_is_measured_from_the_record_and_not_from_a_clock() -> None:
    """An event further ahead of its record than the limit is refused, whatever time it is now."""
    search = {**GOOD[EventKind.SEARCH], "occurred_at": "2025-06-01T12:01:00Z"}
    assert isinstance(decode_event(EventKind.SEARCH, raw(search), LIMITS), Search)
    code, reason = fault(decode_event(EventKind.SEARCH, raw(search, b"u1", NOW_MS - 1), LIMITS))
    assert code == "future"
    assert "clock" in reason
    far = {**search, "occurred_at": "2900-01-01T00:00:00Z"}
    at_its_time_ms = round(datetime(2900, 1, 1, tzinfo=UTC).timestamp() * 1000)
    assert isinstance(
        decode_event(EventKind.SEARCH, raw(far, b"u1", at_its_time_ms), LIMITS), Search
    )
    assert isinstance(decode_event(EventKind.SEARCH, raw(far, b"u1", -1), LIMITS), Search)


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (None, "key_missing"),
        (b"", "key_mismatch"),
        (b"u2", "key_mismatch"),
        (b"u1 ", "key_mismatch"),
    ],
)
def test_a_record_without_the_right_key_is_refused(key: bytes | None, code: str) -> None:
    """Only the key decides the partition, so a record without its shopper's key is no event."""
    found, reason = fault(decode_event(EventKind.SEARCH, raw(GOOD[EventKind.SEARCH], key), LIMITS))
    assert found == code
    assert "user_id" in reason


def test_a_product_is_keyed_by_its_product_id() -> None:
    """A product's key is its product_id, also where it carries a user_id."""
    product = GOOD[EventKind.PRODUCT]
    assert isinstance(decode_event(EventKind.PRODUCT, raw(product, b"p1"), LIMITS), Product)
    assert fault(decode_event(EventKind.PRODUCT, raw(product, b"u1"), LIMITS))[0] == "key_mismatch"


def test_a_tombstone_removes_a_product() -> None:
    """A product record with a key and no value says that the product is gone since that time."""
    removed = decode_event(EventKind.PRODUCT, raw(None, "p-蓝".encode()), LIMITS)
    assert isinstance(removed, ProductRemoved)
    assert removed.product_id == "p-蓝"
    assert removed.event_id == "tombstone:shop.searches:3:42"
    assert removed.occurred_at == NOW


@pytest.mark.parametrize(
    ("kind", "key", "timestamp_ms", "code"),
    [
        (EventKind.SEARCH, b"u1", NOW_MS, "empty"),
        (EventKind.PRODUCT, None, NOW_MS, "key_missing"),
        (EventKind.PRODUCT, b"", NOW_MS, "key_missing"),
        (EventKind.PRODUCT, b"\xff", NOW_MS, "schema"),
        (EventKind.PRODUCT, b"p" * 129, NOW_MS, "schema"),
        (EventKind.PRODUCT, b" p", NOW_MS, "key_mismatch"),
        (EventKind.PRODUCT, b"p", -1, "schema"),
        (EventKind.PRODUCT, b"p", 2**62, "schema"),
    ],
)
def test_records_without_value_that_are_no_tombstone(
    kind: EventKind, key: bytes | None, timestamp_ms: int, code: str
) -> None:
    """A record without value is a tombstone only of a product, with a good key and a time."""
    assert fault(decode_event(kind, raw(None, key, timestamp_ms), LIMITS))[0] == code


def test_a_topic_without_kind_is_named() -> None:
    """A record of a topic that carries no kind of event is refused with the topic's name."""
    code, reason = fault(decode_event(None, raw(b"{}"), LIMITS))
    assert code == "unknown_topic"
    assert "shop.searches" in reason
