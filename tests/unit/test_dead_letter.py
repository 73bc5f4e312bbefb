"""Dead letters keep everything that was wrong, byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.events.dead_letter import (
    MAX_KEPT_BYTES,
    UnreadableDeadLetter,
    dead_letter_message,
    decode_dead_letter,
)
from worker.events.decode import EventLimits, InvalidEvent, RawRecord, decode_event
from worker.events.event import EventKind
from worker.topics.client import MAX_REQUEST_BYTES

_BYTES = st.none() | st.binary(max_size=100)


@settings(deadline=None)
@given(
    key=_BYTES,
    value=_BYTES,
    reason=st.text(st.characters(exclude_categories=())),
    kind=st.none() | st.sampled_from(EventKind),
    timestamp_ms=st.integers(-1, 2**53),
)
def test_a_letter_keeps_the_record_and_the_reason(
    key: bytes | None, value: bytes | None, reason: str, kind: EventKind | None, timestamp_ms: int
) -> None:
    """Whatever the record and the reason hold, the letter can be written and gives them back."""
    raw = RawRecord("shop.searches", 3, 42, key, value, timestamp_ms)
    letter_key, body, headers = dead_letter_message(InvalidEvent(raw, kind, "schema", reason))
    letter = decode_dead_letter(body)
    assert letter_key == b"shop.searches:3:42" == letter.dead_letter_id.encode()
    assert headers == (("code", b"schema"),)
    assert (letter.topic, letter.partition, letter.offset) == ("shop.searches", 3, 42)
    assert (letter.key, letter.value, letter.timestamp_ms) == (key, value, timestamp_ms)
    assert letter.kind == kind
    assert letter.reason == reason.encode(errors="replace").decode()
    assert not letter.is_cut


@pytest.mark.parametrize("size", [MAX_KEPT_BYTES, MAX_KEPT_BYTES + 1, 3 * MAX_KEPT_BYTES])
def test_no_record_is_too_large_to_be_put_aside(size: int) -> None:
    """A letter stays below what our producers send; a larger original is cut, and says so."""
    raw = RawRecord("shop.searches", 0, 1, b"u" * size, b"x" * size, 0)
    invalid = decode_event(EventKind.SEARCH, raw, EventLimits())
    assert isinstance(invalid, InvalidEvent)
    _, body, _ = dead_letter_message(invalid)
    letter = decode_dead_letter(body)
    assert len(body) < MAX_REQUEST_BYTES
    assert letter.value == b"x" * min(size, MAX_KEPT_BYTES)
    assert letter.value_bytes == size
    assert letter.is_cut == (size > MAX_KEPT_BYTES)


@pytest.mark.parametrize("value", [b"", b"{}", b"\xff", b'{"dead_letter_id": 1}'])
def test_a_foreign_record_is_no_letter(value: bytes) -> None:
    """A record that no worker wrote is told apart."""
    with pytest.raises(UnreadableDeadLetter):
        decode_dead_letter(value)
