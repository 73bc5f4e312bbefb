"""What goes through the pipeline: taken events in, an outcome out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from models.text_encoder import Tokens
from worker.events.decode import InvalidEvent
from worker.events.event import Event
from worker.store.contract import ResultWrite


class Position(NamedTuple):
    """Where an event stands in Kafka."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class TakenEvent:
    """An event (or what could not become one) with its position and its texts, tokenized."""

    position: Position
    event: Event | InvalidEvent
    tokens: tuple[Tokens, ...] = ()  # of the event's own texts; empty where no model reads it
    trunk: str = ""  # the text trunk that tokenized them: another one cannot read them

    @property
    def token_count(self) -> int:
        """Tokens this event will cost, padding counted."""
        return sum(tokens.bucket for tokens in self.tokens)


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in the order they are worked on; `batch_id` is `<process id>-<number>`."""

    batch_id: str
    events: Sequence[TakenEvent]


class OutTopic(StrEnum):
    """Internal topics the pipeline writes to; the settings name them in full."""

    SAMPLES = "samples"
    DEAD_LETTERS = "dead-letters"
    PRODUCT_VECTORS = "product-vectors"
    BATCHES = "batches"


@dataclass(frozen=True, slots=True)
class OutMessage:
    """A record to be produced and acknowledged before the batch is."""

    topic: OutTopic
    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    event_id: str = ""  # of a sample: the event that made it


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that one batch leaves behind; the batch is done when every part is confirmed."""

    batch_id: str
    results: Sequence[ResultWrite]
    messages: Sequence[OutMessage]
    sequence: int = 0  # the batch's step on the state store
    notes: dict[str, float] = field(default_factory=dict)  # measured figures for the metrics
