"""Several releases or settings over the same events, in the order of time.

Every arm sees the same state, because state comes from events alone. A batch holds only events that
cannot know of each other (batches.py), so nothing of a later event is known to an earlier one;
texts are encoded ahead, which changes no bit.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain

from models.product_index import ProductIndex
from worker.events.decode import InvalidEvent
from worker.events.event import Event
from worker.pipeline.batch import Batch, Outcome, OutTopic, TakenEvent
from worker.pipeline.catalogue import Catalogue
from worker.pipeline.changes import changes_of, state_step
from worker.pipeline.pipeline import Pipeline
from worker.pipeline.product_vectors import decode_product_vector
from worker.pipeline.vector_cache import TextKey
from worker.replay.comparing.batches import EventBatch, batches_of, window_of
from worker.replay.comparing.journal import Journal
from worker.replay.comparing.outcomes import ArmOutcome, ArmSpec, JudgedEvent, judged_events
from worker.replay.comparing.state import SharedState
from worker.replay.likely_passages import likely_passages
from worker.replay.pace import Pace
from worker.replay.prefetch import ReadAhead, prefetch_events, text_size
from worker.replay.recordings.merge import RecordedEvent
from worker.store.contract import StateStep, StateStore, StateView

_WINDOWS_AHEAD = 4


@dataclass(slots=True)
class _Arm:
    spec: ArmSpec
    pipeline: Pipeline
    catalogue: Catalogue
    owns_catalogue: bool  # of several arms on one trunk the first brings its products


@dataclass(slots=True)
class CompareReport:
    """What went through."""

    events: int = 0
    invalid: int = 0
    warm_up_events: int = 0
    judged_events: int = 0
    products: int = 0
    first_ms: int = -1
    last_ms: int = -1
    judged_from_ms: int = -1
    seconds: float = 0.0
    judged_seconds: float = 0.0  # from the first judged event on
    encode_seconds: dict[str, float] = field(default_factory=dict)


class Comparison:
    """Runs arms over events."""

    def __init__(
        self,
        arms: Sequence[ArmSpec],
        store: StateStore,
        pace: Pace | None = None,
        keeps_results: bool = False,
        journal: Journal | None = None,
    ) -> None:
        """Prepare the arms; the first is the baseline. Raises ValueError for doubled names."""
        if not arms or len({arm.name for arm in arms}) != len(arms):
            raise ValueError("arms need names of their own")
        self._store = store
        self._state = SharedState(store, keeps_results)
        self._pace = pace or Pace()
        self._journal = journal
        catalogues: dict[str, Catalogue] = {}
        self._arms: list[_Arm] = []
        for spec in arms:
            trunk = spec.models.trunk
            owns = trunk.release not in catalogues
            catalogue = catalogues.setdefault(
                trunk.release, Catalogue(ProductIndex(trunk.width), trunk.release)
            )
            pipeline = Pipeline(
                models=spec.models,
                store=self._state,
                clock=None,
                options=spec.options,
            )
            self._arms.append(_Arm(spec, pipeline, catalogue, owns))
        self._number = 0
        self._read_ahead = ReadAhead()
        self._judged_since_s: float | None = None
        self.report = CompareReport(encode_seconds={arm.name: 0.0 for arm in arms})

    async def run(
        self,
        events: Iterable[RecordedEvent],
        judge: Callable[[Sequence[JudgedEvent]], None],
        *,
        from_ms: int = -1,
        progress: Callable[[int], None] | None = None,
    ) -> CompareReport:
        """Replay; events before `from_ms` only warm the state.

        `judge` sees the events from then on, in their order, a batch's together.
        """
        started_s = time.perf_counter()
        with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
            # a batch is written at once: where events have their time, each is on its own
            batches = batches_of(events, from_ms, one_by_one=self._pace.keeps_time)
            for window, shares_s in self._ahead(thread, batches):
                for batch in window:
                    await self._batch(batch, shares_s, judge)
                if progress is not None:
                    progress(self.report.events)
        ended_s = time.perf_counter()
        self.report.seconds = ended_s - started_s
        if self._judged_since_s is not None:
            self.report.judged_seconds = ended_s - self._judged_since_s
        self.report.products = len(self._arms[0].catalogue.index)
        return self.report

    def product_index(self) -> ProductIndex:
        """Return the first arm's products."""
        return self._arms[0].catalogue.index

    # --- reading and encoding ahead

    def _ahead(
        self, thread: ThreadPoolExecutor, batches: Iterator[EventBatch]
    ) -> Iterator[tuple[list[EventBatch], Mapping[str, float]]]:
        """Yield windows whose texts are encoded, and the seconds a text took by arm.

        Some windows are under way at a time, so that neither the device nor who ranks waits for the
        other where one window is harder to encode and the next harder to rank.
        """
        under_way: deque[tuple[list[EventBatch], Future[Mapping[str, float]]]] = deque()
        while True:
            while len(under_way) < _WINDOWS_AHEAD:
                window = window_of(batches, self._read_ahead.characters)
                if not window:
                    break
                before = [batch for earlier, _ in under_way for batch in earlier]
                under_way.append((window, self._encode_ahead(thread, before, window)))
            if not under_way:
                return
            window, encoding = under_way.popleft()
            yield window, encoding.result()

    def _encode_ahead(
        self,
        thread: ThreadPoolExecutor,
        before: Sequence[EventBatch],
        window: Sequence[EventBatch],
    ) -> Future[Mapping[str, float]]:
        events = _valid_events(batch for batch in window if batch.kind != "warm-up")
        if self._journal is not None and self._journal.is_ahead:
            events = []  # what models say of them is known
        most = self._arms[0].spec.options.passages_per_question
        passages = likely_passages(self._store, _valid_events(before), events, most)
        return thread.submit(self._encode_window, events, passages)

    def _encode_window(
        self, events: Sequence[Event], passages: Sequence[TextKey]
    ) -> Mapping[str, float]:
        """Encode own texts by every arm's trunk; return seconds a text by arm."""
        texts = max(1, sum(text_size(event) > 0 for event in events))
        shares_s: dict[str, float] = {}
        done: dict[int, float] = {}
        for arm in self._arms:
            trunk = arm.spec.models.trunk
            if id(trunk) not in done:
                started_s = time.perf_counter()
                prefetch_events(arm.spec.models, events, passages)
                done[id(trunk)] = time.perf_counter() - started_s
            shares_s[arm.spec.name] = done[id(trunk)] / texts
            self.report.encode_seconds[arm.spec.name] += done[id(trunk)]
        self._read_ahead.took(sum(map(text_size, events)), sum(done.values()))
        return shares_s

    # --- working

    async def _batch(
        self,
        batch: EventBatch,
        shares_s: Mapping[str, float],
        judge: Callable[[Sequence[JudgedEvent]], None],
    ) -> None:
        report = self.report
        report.events += len(batch.events)
        valid = [one for one in batch.events if not isinstance(one.event, InvalidEvent)]
        report.invalid += len(batch.events) - len(valid)
        if not valid:
            return
        report.first_ms = valid[0].at_ms if report.first_ms < 0 else report.first_ms
        report.last_ms = max(report.last_ms, valid[-1].at_ms)
        if batch.kind == "products":
            await self._work(valid, shares_s, batch.is_cut)
        elif batch.kind == "warm-up":
            report.warm_up_events += len(valid)
            await self._warm_up(valid)
        else:
            await self._pace.wait(valid[-1].at_ms)
            if report.judged_from_ms < 0:
                report.judged_from_ms = valid[0].at_ms
                self._judged_since_s = time.perf_counter()
            report.judged_events += len(valid)
            view, outcomes = await self._work(valid, shares_s, batch.is_cut)
            judge(judged_events(valid, view, outcomes, self._arms[0].catalogue.index))

    async def _warm_up(self, part: Sequence[RecordedEvent]) -> None:
        """Put events into the state; nobody will read what models would say."""
        changes = chain.from_iterable(
            changes_of(one.event) for one in part if not isinstance(one.event, InvalidEvent)
        )
        await self._store.apply(StateStep(list(changes)))

    async def _work(
        self, part: Sequence[RecordedEvent], shares_s: Mapping[str, float], is_cut: bool
    ) -> tuple[StateView, dict[str, ArmOutcome]]:
        self._number += 1
        known = self._journal.take(self._number) if self._journal is not None else None
        if known is not None:
            return await self._again(part, known)
        outcomes: dict[str, ArmOutcome] = {}
        view = StateView(0)
        for arm in self._arms:
            taken = arm.pipeline.prepare([(one.position, one.event) for one in part])
            gathered = await arm.pipeline.gather(Batch(f"replay-{self._number}", taken))
            view = gathered.view
            started_s = time.perf_counter()
            encoded = arm.pipeline.encode(gathered)
            encoded_s = time.perf_counter()
            outcome = arm.pipeline.conclude(encoded, arm.catalogue)
            concluded_s = time.perf_counter()
            if arm.owns_catalogue:
                self._offer_products(arm, outcome)
            texts = sum(bool(one.tokens) for one in taken)
            outcomes[arm.spec.name] = ArmOutcome(
                outcome,
                encoded_s - started_s + texts * shares_s[arm.spec.name],
                concluded_s - encoded_s,
            )
        await self._state.write(outcomes[self._arms[0].spec.name].outcome.results)
        if self._journal is not None and not is_cut:  # more of a cut one may come another time
            self._journal.add(
                self._number,
                {
                    name: (made.outcome, made.encode_s, made.conclude_s)
                    for name, made in outcomes.items()
                },
            )
        return view, outcomes

    async def _again(
        self,
        part: Sequence[RecordedEvent],
        known: Mapping[str, tuple[Outcome, float, float]],
    ) -> tuple[StateView, dict[str, ArmOutcome]]:
        """Do a batch's step on the state, and take from the journal what models said."""
        first = self._arms[0]
        taken = [TakenEvent(one.position, one.event) for one in part]
        batch = Batch(f"replay-{self._number}", taken)
        view = await self._state.apply(state_step(batch, first.spec.options, b""))
        outcomes = {name: ArmOutcome(*made) for name, made in known.items()}
        for arm in self._arms:
            arm.catalogue.apply_pending()
            if arm.owns_catalogue:
                self._offer_products(arm, outcomes[arm.spec.name].outcome)
        await self._state.write(outcomes[first.spec.name].outcome.results)
        return view, outcomes

    def _offer_products(self, arm: _Arm, outcome: Outcome) -> None:
        """Bring a batch's products to the index, as the feed brings them to live workers."""
        updates = [
            decode_product_vector(message.key, message.value, arm.catalogue.widths)
            for message in outcome.messages
            if message.topic is OutTopic.PRODUCT_VECTORS
        ]
        if updates:
            arm.catalogue.offer(updates, ())


def _valid_events(batches: Iterable[EventBatch]) -> list[Event]:
    return [
        one.event
        for batch in batches
        for one in batch.events
        if not isinstance(one.event, InvalidEvent)
    ]
