"""What the live view shows, as plain values: a snapshot of a running shop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from worker.page.loop_figures import LoopFigures


@dataclass(frozen=True, slots=True)
class KindFigures:
    """Events of one kind; latencies in ms from sending to the result in Redis, None if unknown."""

    kind: str
    sent: int
    answered: int
    p50_ms: float | None = None
    p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class ShownItem:
    """One line of a list: a product and why it stands there."""

    title: str
    reason: str


@dataclass(frozen=True, slots=True)
class ShownList:
    """A shopper's recommendations, or the results of a query."""

    heading: str
    items: Sequence[ShownItem]


@dataclass(frozen=True, slots=True)
class ShownReview:
    """A review's text with the tag it got; `meant` is what its writer felt, where known."""

    text: str
    sentiment: str
    confidence: float
    meant: str | None = None


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """A question, the answer (None: none was found) and where it stood."""

    question: str
    answer: str | None
    source: str
    confidence: float


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """A snapshot. Rates are per second over the last seconds, trends have one value a second."""

    heading: str = ""
    places: Sequence[str] = ()
    elapsed_s: float = 0.0
    limit_s: float | None = None
    events_per_s: float = 0.0
    events_trend: Sequence[float] = ()
    p50_ms: float | None = None
    p99_ms: float | None = None
    p99_trend_ms: Sequence[float] = ()
    events_per_batch: float | None = None
    largest_batch: int = 0
    batches: int = 0
    waiting: int = 0
    kinds: Sequence[KindFigures] = ()
    samples: Mapping[str, int] = field(default_factory=dict)
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    last_dead_letter: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)  # name -> share, 0 to 1
    recommendations: Sequence[ShownList] = ()  # newest first, as all lists of answers
    searches: Sequence[ShownList] = ()
    reviews: Sequence[ShownReview] = ()
    answers: Sequence[ShownAnswer] = ()
    notes: Sequence[str] = ()
    loop: LoopFigures | None = None  # None: no loop runs
