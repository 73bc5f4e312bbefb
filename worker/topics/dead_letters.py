"""Dead letters, read back and sent again."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
from aiokafka import AIOKafkaProducer

from worker.errors import ShopstreamError
from worker.events.dead_letter import DeadLetter, UnreadableDeadLetter, decode_dead_letter
from worker.events.decode import EventLimits, InvalidEvent, RawRecord, decode_event
from worker.events.event import EventKind, ProductRemoved
from worker.settings import Settings
from worker.topics.client import kafka_errors, producer_options
from worker.topics.layout import TopicLayout
from worker.topics.reader import read_topic


class NotResent(ShopstreamError):
    """A dead letter could not be sent back; the message says why."""


async def read_dead_letters(
    settings: Settings,
) -> AsyncGenerator[DeadLetter | UnreadableDeadLetter]:
    """Yield every dead letter, oldest first, each once; a foreign record as why it is none.

    Raises KafkaUnavailable, TopicsUnfit.
    """
    seen: set[str] = set()  # a batch done twice leaves its letters twice
    topic = TopicLayout.from_settings(settings).dead_letters
    async with aclosing(read_topic(settings, topic)) as records:
        async for record in records:
            try:
                letter = decode_dead_letter(record.value or b"")
            except UnreadableDeadLetter as error:
                yield UnreadableDeadLetter(f"offset {record.offset}: {error}")
                continue
            if letter.dead_letter_id not in seen:
                seen.add(letter.dead_letter_id)
                yield letter


async def find_dead_letter(settings: Settings, letter_id: str) -> DeadLetter:
    """Return one dead letter; raises NotResent when there is none of this id."""
    async with aclosing(read_dead_letters(settings)) as letters:
        async for letter in letters:
            if isinstance(letter, DeadLetter) and letter.dead_letter_id == letter_id:
                return letter
    raise NotResent(
        f"there is no dead letter {letter_id!r}; `shopstream dead-letters list` names them"
    )


async def resend_dead_letter(settings: Settings, letter: DeadLetter, value: bytes | None) -> str:
    """Send a mended value (None: the original) to the letter's topic; return the event's id.

    The record's key is the mended event's own user_id or product_id. Sending twice is harmless, as
    the event keeps its event_id. Raises NotResent when the value is still no valid event, with the
    reason, and KafkaUnavailable.
    """
    kind = TopicLayout.from_settings(settings).kind_of(letter.topic)
    if kind is None:
        raise NotResent(f"{letter.topic} is no event topic; produce the event to the right one")
    if value is None and letter.is_cut:
        raise NotResent(
            f"{letter.dead_letter_id} had {letter.value_bytes} bytes and was cut; give the "
            "mended event with --value"
        )
    mended = letter.value if value is None else value
    key = _owner(kind, mended) or letter.key
    raw = RawRecord(letter.topic, letter.partition, letter.offset, key, mended, _now_ms())
    limits = EventLimits(settings.max_event_bytes, settings.max_text_chars, settings.max_future_s)
    event = decode_event(kind, raw, limits)
    if isinstance(event, InvalidEvent):
        raise NotResent(
            f"{letter.dead_letter_id} was not sent, it is still invalid: {event.reason}"
        )
    async with kafka_errors(settings):
        producer = AIOKafkaProducer(**producer_options(settings))
        try:
            await producer.start()
            await producer.send_and_wait(letter.topic, mended, key=key)
        finally:
            await producer.stop()
    return event.product_id if isinstance(event, ProductRemoved) else event.event_id


def _owner(kind: EventKind, value: bytes | None) -> bytes | None:
    """Return the key an event needs: what its own user_id or product_id says."""
    try:
        fields: Any = orjson.loads(value or b"null")
    except orjson.JSONDecodeError:
        return None
    name = "product_id" if kind is EventKind.PRODUCT else "user_id"
    owner = fields.get(name) if isinstance(fields, dict) else None
    return owner.strip().encode() if isinstance(owner, str) else None


def _now_ms() -> int:
    return round(time.time() * 1000)
