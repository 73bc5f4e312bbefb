"""The demo's books: what was sent, what stands in Redis, what is a dead letter, what is missing.

An event counts as answered only when its result was read back from Redis at its version or a newer
one; its latency ends when Redis publishes that the result is written. Times are seconds of one
monotonic clock.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from worker.embedded.shop.records import SimulatedEvent
from worker.events.event import EventKind
from worker.store.contract import ResultKind, Version
from worker.store.results import version_text

RECENT_LATENCIES = 400

# Under which result an event's answer stands: the family of keys, as in docs/redis.md.
ANSWERED_BY: dict[EventKind, str] = {
    EventKind.SEARCH: ResultKind.SEARCH,
    EventKind.PURCHASE: ResultKind.RECOMMENDATIONS,
    EventKind.RETURN: ResultKind.RECOMMENDATIONS,
    EventKind.REVIEW: ResultKind.TAGS,
    EventKind.QUESTION: ResultKind.ANSWER,
    EventKind.PRODUCT: "product",
    EventKind.FORGET: "forgotten",
}
# Redis publishes no word of these: they are looked up until they stand there.
UNPUBLISHED = ("product", "forgotten")

Position = tuple[str, int, int]  # topic, partition, offset
Place = tuple[str, str]  # family of keys, id


@dataclass(slots=True, eq=False)
class SentEvent:
    """An event on its way: where its answer will stand, and the least version that answers it."""

    event: SimulatedEvent
    place: Place
    version: str
    sent_s: float
    position: Position | None = None
    settled: bool = False


class Ledger:
    """Books of one demo; not for use by several threads."""

    def __init__(self) -> None:
        self.sent: Counter[EventKind] = Counter()
        self.answered: Counter[EventKind] = Counter()
        self.dead_letters: Counter[str] = Counter()  # by code
        self._waiting: dict[Place, list[SentEvent]] = {}
        self._written: deque[SentEvent] = deque()
        self._latencies: dict[EventKind, array[float]] = {}
        self._recent: deque[float] = deque(maxlen=RECENT_LATENCIES)
        self._by_position: dict[Position, SentEvent] = {}
        self._early_dead_letters: set[Position] = set()
        self._forgotten: dict[str, str] = {}  # shopper -> version of the request
        self._dead = 0
        self._first_tag_s = math.inf

    # --- what happens

    def note_sent(self, event: SimulatedEvent, now_s: float) -> SentEvent:
        """Book an event as sent at `now_s`; call it before handing it to the producer."""
        occurred_at_ms = round(event.occurred_at.timestamp() * 1000)
        sent = SentEvent(
            event,
            (ANSWERED_BY[event.kind], event.result_id),
            version_text(Version(occurred_at_ms, event.event_id)),
            now_s,
        )
        self.sent[event.kind] += 1
        self._waiting.setdefault(sent.place, []).append(sent)
        return sent

    def note_position(self, sent: SentEvent, position: Position) -> None:
        """Book where Kafka put an event."""
        if position in self._early_dead_letters:
            self._early_dead_letters.discard(position)
            self._bury(sent)
        elif sent in self._waiting.get(sent.place, ()):
            sent.position = position
            self._by_position[position] = sent

    def note_dead_letter(self, position: Position, code: str) -> None:
        """Book that the event at this position became a dead letter."""
        self.dead_letters[code] += 1
        sent = self._by_position.get(position)
        if sent is None:  # Kafka's acknowledgement of the event itself is still on its way
            self._early_dead_letters.add(position)
        else:
            self._bury(sent)

    def note_written(self, place: Place, version: str, now_s: float) -> None:
        """Book a publication: the result there has this version; what it answers is to be read."""
        if place[0] == ResultKind.TAGS:
            self._first_tag_s = min(self._first_tag_s, now_s)
        for sent in self._take(place, version):
            latency_ms = (now_s - sent.sent_s) * 1000.0
            self._latencies.setdefault(sent.event.kind, array("d")).append(latency_ms)
            self._recent.append(latency_ms)
            self._written.append(sent)

    def note_read(self, sent: SentEvent, version: str | None) -> bool:
        """Book what was read at the event's place; returns whether it answers the event.

        None: nothing stands there. An event without its answer waits on. An event that is settled
        already (two looks may overlap) changes nothing.
        """
        if sent.settled:
            return False
        stands = version is not None and version >= sent.version
        if stands or self._is_forgotten(sent):
            self._drop(sent)
            self._settle(sent)
            return stands
        if sent not in self._waiting.get(sent.place, ()):
            self._waiting.setdefault(sent.place, []).append(sent)
        return False

    def note_forgotten(self, user_id: str, version: str) -> None:
        """Book that a shopper is forgotten: what was asked before has rightly no answer left."""
        self._forgotten[user_id] = version
        for sent in [*self.waiting(), *self._written]:
            if self._is_forgotten(sent):
                self._drop(sent)
                self._settle(sent)

    def note_no_tags(self) -> None:
        """Book that those get no tags: what remains of their answer is the shopper's new list."""
        for sent in list(self.waiting()):
            if self._before_tags(sent):
                self._drop(sent)
                sent.place = (ResultKind.RECOMMENDATIONS, sent.event.user_id or "")
                self._waiting.setdefault(sent.place, []).append(sent)

    # --- what is asked

    def take_written(self) -> list[SentEvent]:
        """Return, once, the events whose results were published and are to be read."""
        taken = list(self._written)
        self._written.clear()
        return taken

    def waiting(self) -> Iterator[SentEvent]:
        """Yield the events without answer so far."""
        for events in list(self._waiting.values()):
            yield from list(events)

    def only_tags_missing(self) -> bool:
        """Say whether none wait but reviews from before the first tag: no model could tag then."""
        return all(map(self._before_tags, self.waiting()))

    def unpublished(self) -> list[SentEvent]:
        """Return the waiting events whose answers Redis does not publish."""
        return [sent for sent in self.waiting() if sent.place[0] in UNPUBLISHED]

    @property
    def open_count(self) -> int:
        """Events sent, not answered and no dead letter; after the drain: lost."""
        return self.sent.total() - self.answered.total() - self._dead

    @property
    def dead_count(self) -> int:
        """Sent events that became dead letters."""
        return self._dead

    def latencies_ms(self, kinds: Iterable[EventKind] = tuple(EventKind)) -> list[float]:
        """Return the latencies of these kinds, from sending to the word of Redis."""
        return [one for kind in kinds for one in self._latencies.get(kind, ())]

    @property
    def recent_ms(self) -> Sequence[float]:
        """The newest latencies of all kinds, oldest first."""
        return tuple(self._recent)

    # --- inside

    def _take(self, place: Place, version: str) -> list[SentEvent]:
        waiting = self._waiting.get(place)
        if waiting is None:
            return []
        taken = [sent for sent in waiting if sent.event.valid and sent.version <= version]
        left = [sent for sent in waiting if sent not in taken]
        if left:
            self._waiting[place] = left
        else:
            del self._waiting[place]
        return taken

    def _bury(self, sent: SentEvent) -> None:
        self._drop(sent)
        if sent.position is not None:
            self._by_position.pop(sent.position, None)
        self._dead += 1

    def _is_forgotten(self, sent: SentEvent) -> bool:
        request = self._forgotten.get(sent.event.user_id or "")
        return request is not None and sent.event.valid and sent.version <= request

    def _before_tags(self, sent: SentEvent) -> bool:
        event = sent.event
        return event.kind is EventKind.REVIEW and event.valid and sent.sent_s < self._first_tag_s

    def _drop(self, sent: SentEvent) -> None:
        if sent in self._written:
            self._written.remove(sent)
        waiting = self._waiting.get(sent.place, [])
        if sent in waiting:
            waiting.remove(sent)
            if not waiting:
                del self._waiting[sent.place]

    def _settle(self, sent: SentEvent) -> None:
        sent.settled = True
        self.answered[sent.event.kind] += 1
        if sent.position is not None:
            self._by_position.pop(sent.position, None)


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that at least `share` (0 to 1) of the values do not exceed."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
