"""Events of a followed run for the judges: each once, in the order in which they happened.

Batches interleave partitions as the live workers met them, and a repeat after a crash comes twice.
Judges need time to rise, so some thousand events wait until those that happened before have come.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from worker.events.event import Forget, Product, ProductRemoved
from worker.pipeline.batch import Outcome, Position
from worker.pipeline.causes import Cause, causes_of
from worker.pipeline.messages import event_samples
from worker.pipeline.samples import SampleMaker
from worker.pipeline.texts import live_events
from worker.replay.comparing.outcomes import JudgedEvent
from worker.replay.following.follower import FollowedBatch
from worker.store.contract import ResultKind, ResultWrite

WAITING_EVENTS = 5_000


@dataclass(slots=True)
class JudgedReport:
    """What was handed on."""

    events: int = 0
    warm_up_events: int = 0
    judged_events: int = 0
    repeated_events: int = 0  # taken again by a later batch, after a crash or a moved partition
    first_ms: int = -1
    last_ms: int = -1


class JudgedOrder:
    """Cuts batches into events and hands them to a judge by time."""

    def __init__(
        self,
        judge: Callable[[JudgedEvent], None],
        samples: SampleMaker,
        from_ms: int,
        until_ms: int | None = None,
    ) -> None:
        self._judge = judge
        self._samples = samples
        self._from_ms = from_ms
        self._until_ms = until_ms
        self._waiting: list[tuple[int, Position]] = []
        self._events: dict[Position, JudgedEvent] = {}
        self._taken: dict[tuple[str, int], int] = defaultdict(lambda: -1)  # newest offset
        self.report = JudgedReport()

    def add(self, batch: FollowedBatch) -> None:
        """Take a batch; one that was never confirmed made nothing to judge."""
        index = batch.index_of(batch.gathered.releases.trunk or batch.record.release)
        if index is None:
            return
        live = live_events(batch.gathered.batch, batch.gathered.view)
        causes = causes_of(live, batch.gathered.view.histories)
        made = {arm: _by_event(one.outcome, causes) for arm, one in batch.outcomes.items()}
        parts = max(1, len(batch.events))
        for item in live:
            recorded = batch.events[item.row]
            if isinstance(item.event, Product | ProductRemoved | Forget):
                continue
            if not self._wanted(recorded.position, recorded.at_ms):
                continue
            messages = event_samples(item, batch.gathered.view, self._samples)
            outcomes = {
                arm: one.part(made[arm].get(item.event.event_id, ()), messages, parts)
                for arm, one in batch.outcomes.items()
            }
            judged = JudgedEvent(recorded, item.event, batch.gathered.view, outcomes, index)
            if recorded.position not in self._events:
                heapq.heappush(self._waiting, (recorded.at_ms, recorded.position))
            self._events[recorded.position] = judged
        while len(self._waiting) > WAITING_EVENTS:
            self._hand_on()

    def finish(self) -> None:
        """Hand on what still waits."""
        while self._waiting:
            self._hand_on()

    def _wanted(self, position: Position, at_ms: int) -> bool:
        """Count an event; a repeat is wanted only while the first one still waits."""
        report = self.report
        partition = (position.topic, position.partition)
        if position.offset <= self._taken[partition]:
            report.repeated_events += 1
            return position in self._events
        self._taken[partition] = position.offset
        report.events += 1
        report.first_ms = at_ms if report.first_ms < 0 else min(report.first_ms, at_ms)
        if at_ms < self._from_ms:
            report.warm_up_events += 1
            return False
        return self._until_ms is None or at_ms < self._until_ms

    def _hand_on(self) -> None:
        at_ms, position = heapq.heappop(self._waiting)
        self.report.judged_events += 1
        self.report.last_ms = max(self.report.last_ms, at_ms)
        self._judge(self._events.pop(position))


def _by_event(outcome: Outcome, causes: Mapping[str, Cause]) -> Mapping[str, Sequence[ResultWrite]]:
    """Sort results by the event of the batch that caused them; a list may know younger ones."""
    found: dict[str, list[ResultWrite]] = defaultdict(list)
    for one in outcome.results:
        is_list = one.kind is ResultKind.RECOMMENDATIONS
        event_id = causes[one.id].event.event_id if is_list else one.version.event_id
        found[event_id].append(one)
    return found
