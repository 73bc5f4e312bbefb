"""Dead letters: what could not become an event, kept with its original bytes and a reason."""

from __future__ import annotations

import base64

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worker.errors import ShopstreamError
from worker.events.decode import InvalidEvent

# What is kept of an original at most: as base64 it stays below what our producers send (8 MiB), so
# that no record is too large to be put aside. The whole record still stands in its own topic.
MAX_KEPT_BYTES = 5_000_000
MAX_KEPT_KEY_BYTES = 10_000


class UnreadableDeadLetter(ShopstreamError):
    """A record of the dead-letter topic is not one of ours."""


class DeadLetter(BaseModel):
    """One record of the dead-letter topic; `dead_letter_id` is its key."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    dead_letter_id: str = Field(description="<topic>:<partition>:<offset> of the record.")
    topic: str
    partition: int
    offset: int
    timestamp_ms: int = Field(description="The record's own time, ms since 1970; -1: none.")
    kind: str | None = Field(description="The kind of event its topic carries.")
    code: str = Field(description="Why, for machines.")
    reason: str = Field(description="Why, for the person who mends it.")
    key_base64: str | None = Field(description="The original key; null: none.")
    value_base64: str | None = Field(description="The original value; null: none.")
    value_bytes: int | None = Field(
        default=None, description="Size of the original value; more than is kept: it was cut."
    )

    @property
    def key(self) -> bytes | None:
        """The original key."""
        return None if self.key_base64 is None else base64.b64decode(self.key_base64)

    @property
    def value(self) -> bytes | None:
        """The original value."""
        return None if self.value_base64 is None else base64.b64decode(self.value_base64)

    @property
    def is_cut(self) -> bool:
        """Whether the original value was too large to be kept whole."""
        return self.value_bytes is not None and self.value_bytes > MAX_KEPT_BYTES


def dead_letter_message(
    invalid: InvalidEvent,
) -> tuple[bytes, bytes, tuple[tuple[str, bytes], ...]]:
    """Return key, value and headers of the record that keeps an invalid event.

    The key names the original record, so a batch that is done twice leaves the same letter twice.
    Of a value beyond `MAX_KEPT_BYTES` and a key beyond `MAX_KEPT_KEY_BYTES` the beginning is kept.
    """
    raw = invalid.raw
    letter_id = f"{raw.topic}:{raw.partition}:{raw.offset}"
    value = orjson.dumps(
        {
            "dead_letter_id": letter_id,
            "topic": raw.topic,
            "partition": raw.partition,
            "offset": raw.offset,
            "timestamp_ms": raw.timestamp_ms,
            "kind": invalid.kind.value if invalid.kind is not None else None,
            "code": invalid.code,
            # A reason may quote the input, lone surrogates included; JSON must not.
            "reason": invalid.reason.encode(errors="replace").decode(),
            "key_base64": _base64(raw.key, MAX_KEPT_KEY_BYTES),
            "value_base64": _base64(raw.value, MAX_KEPT_BYTES),
            "value_bytes": None if raw.value is None else len(raw.value),
        }
    )
    return letter_id.encode(), value, (("code", invalid.code.encode()),)


def decode_dead_letter(value: bytes) -> DeadLetter:
    """Read a record of the dead-letter topic; raises UnreadableDeadLetter."""
    try:
        return DeadLetter.model_validate_json(value)
    except ValidationError as error:
        raise UnreadableDeadLetter(
            f"a record of the dead-letter topic cannot be read: {error.errors()[0]['msg']}"
        ) from error


def _base64(data: bytes | None, most: int) -> str | None:
    return None if data is None else base64.b64encode(data[:most]).decode()
