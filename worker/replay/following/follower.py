"""A live run again: its batches in the order of their steps on the state, each on its release.

Of a batch that a crash left unconfirmed only the step on the state is done: its events came again
in later batches, whose results took the place of whatever it had written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from models.product_index import ProductIndex
from worker.events.decode import InvalidEvent
from worker.flow.assembly import pipeline_options
from worker.pipeline.batch import Batch, Outcome, OutMessage, TakenEvent
from worker.pipeline.catalogue import Catalogue
from worker.pipeline.changes import state_step
from worker.pipeline.messages import sample_messages
from worker.pipeline.pipeline import Pipeline
from worker.pipeline.records import BatchRecord
from worker.pipeline.samples import SampleMaker
from worker.pipeline.serving import Trial
from worker.pipeline.stages import GatheredBatch, PipelineModels
from worker.replay.comparing.beside import ArmsBeside
from worker.replay.comparing.journal import Journal
from worker.replay.comparing.outcomes import ArmOutcome, ArmSpec
from worker.replay.following.catalogues import RecordedCatalogue
from worker.replay.following.order import BatchOrder
from worker.replay.following.prepared import BatchReader, PreparedBatch
from worker.replay.following.steps import RecordedSteps
from worker.replay.pace import Pace
from worker.replay.recordings.merge import RecordedEvent
from worker.replay.recordings.recording import Recording
from worker.replay.releases import Releases
from worker.settings import Settings
from worker.store.contract import StateStore

LIVE = "live"  # the arm that the live run itself was


@dataclass(frozen=True, slots=True)
class FollowedBatch:
    """A batch as it was done again."""

    record: BatchRecord
    events: Sequence[RecordedEvent]
    gathered: GatheredBatch
    outcomes: Mapping[str, ArmOutcome]  # `LIVE` first; none where it was never confirmed
    catalogue: Catalogue  # as the batch met it
    perhaps_sent: Sequence[OutMessage] = ()  # samples of an unconfirmed batch

    @property
    def outcome(self) -> Outcome | None:
        """What the live run's own models made of it; None where it was never confirmed."""
        found = self.outcomes.get(LIVE)
        return None if found is None else found.outcome

    def index_of(self, trunk: str) -> ProductIndex | None:
        """Return the products of a trunk as the batch met them; None where nobody knows them."""
        return self.catalogue.index_of(trunk) if self.outcomes else None


@dataclass(slots=True)
class FollowReport:
    """What was replayed."""

    batches: int = 0
    unconfirmed: int = 0
    events: int = 0
    results: int = 0
    releases: dict[str, int] = field(default_factory=dict)  # release -> batches
    first_ms: int = -1
    last_ms: int = -1


@dataclass(slots=True)
class _Process:
    """One process start: its pipeline's caches and its product index."""

    pipeline: Pipeline
    catalogue: RecordedCatalogue


class Follower:
    """Replays a recording by its batch records."""

    def __init__(
        self,
        recording: Recording,
        order: BatchOrder,
        store: StateStore,
        releases: Releases,
        settings: Settings,
        privacy_key: str,
        pace: Pace | None = None,
        *,
        beside: Sequence[ArmSpec] = (),
        beside_from_ms: int = -1,
        journal: Journal | None = None,
    ) -> None:
        """Prepare to follow `order`.

        Args:
            beside: other releases, asked about every batch with an event at `beside_from_ms` or
                later; what they say is handed on and changes nothing.
            journal: keeps what models said; a replay that was cut short goes on from it.
        """
        self._recording = recording
        self._order = order
        self._store = RecordedSteps(store)
        self._releases = releases
        self._settings = settings
        self._privacy_key = privacy_key
        self._pace = pace or Pace()
        self._beside = ArmsBeside(beside)
        self._journal = journal
        self._reader = BatchReader(
            recording, order, releases, settings, self._beside.models, beside_from_ms, store
        )
        self._samples = SampleMaker(pipeline_options(settings, "", privacy_key))
        self._processes: dict[str, _Process] = {}
        self._now = datetime.fromtimestamp(0, UTC)
        self.report = FollowReport()

    async def run(
        self,
        done: Callable[[FollowedBatch], None] | None = None,
        progress: Callable[[int, int], None] | None = None,
        until_sequence: int | None = None,
        until_ms: int | None = None,
    ) -> FollowReport:
        """Replay to the end, to a step, or to a batch whose events are all later than a time.

        `done` sees every batch. Raises ReplayStopped, ReleaseGone, StoreUnavailable.
        """
        total = self._recording.event_count
        with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
            for prepared, text_s in self._reader.ahead(thread, self._is_known):
                if until_sequence is not None and prepared.record.sequence > until_sequence:
                    break
                if until_ms is not None and min(_times(prepared), default=-1) >= until_ms:
                    break
                await self._pace.wait(prepared.timestamp_ms)
                batch = await self._batch(prepared, text_s)
                if done is not None:
                    done(batch)
                if progress is not None:
                    progress(min(self.report.events, total), total)
        return self.report

    def _is_known(self) -> bool:
        return self._journal is not None and self._journal.is_ahead

    # --- one batch

    async def _batch(self, prepared: PreparedBatch, text_s: float) -> FollowedBatch:
        record = prepared.record
        process = self._process(prepared)
        self._now = datetime.fromtimestamp(max(prepared.timestamp_ms, 0) / 1000, UTC)
        self._store.sequence = record.sequence
        known = None
        if record.confirmed and self._journal is not None:
            known = self._journal.take(record.sequence)
        if known is not None:
            gathered = await self._gathered_again(prepared, process)
            outcomes = {name: ArmOutcome(*made) for name, made in known.items()}
            process.catalogue.advance(record.index_position)
            process.catalogue.catalogue.apply_pending()
        else:
            taken = process.pipeline.prepare([(one.position, one.event) for one in prepared.events])
            gathered = await process.pipeline.gather(Batch(record.batch_id, taken))
            outcomes = {}
            if record.confirmed:
                outcomes = await self._outcomes(prepared, process, gathered, text_s)
        perhaps: list[OutMessage] = []
        if LIVE in outcomes:
            made = outcomes[LIVE].outcome
            await self._store.write(made.results, batch_id=record.batch_id, sequence=made.sequence)
        else:
            await self._store.write((), batch_id=record.batch_id)
            perhaps = [
                message
                for arm in gathered.arms
                for message in sample_messages(arm, self._samples, ())
            ]
        batch = FollowedBatch(
            record, prepared.events, gathered, outcomes, process.catalogue.catalogue, perhaps
        )
        self._count(prepared, batch.outcome)
        if self._order.last_of.get(record.process_id) == record.sequence:
            del self._processes[record.process_id]
        return batch

    async def _outcomes(
        self, prepared: PreparedBatch, process: _Process, gathered: GatheredBatch, text_s: float
    ) -> dict[str, ArmOutcome]:
        started_s = time.perf_counter()
        encoded = process.pipeline.encode(gathered)
        encoded_s = time.perf_counter()
        if prepared.judged:
            for trunk in self._beside.trunks:
                process.catalogue.serve(trunk)
        process.catalogue.advance(prepared.record.index_position)
        catalogue = process.catalogue.catalogue
        advanced_s = time.perf_counter()
        outcome = process.pipeline.conclude(encoded, catalogue)
        texts = sum(bool(one.tokens) for one in gathered.batch.events)
        outcomes = {
            LIVE: ArmOutcome(
                outcome,
                encoded_s - started_s + texts * text_s,
                time.perf_counter() - advanced_s,
            )
        }
        if prepared.judged:
            outcomes |= await self._beside.outcomes(gathered, catalogue, self._now, text_s)
        if self._journal is not None:
            self._journal.add(
                prepared.record.sequence,
                {
                    name: (one.outcome, one.encode_s, one.conclude_s)
                    for name, one in outcomes.items()
                },
            )
        return outcomes

    async def _gathered_again(self, prepared: PreparedBatch, process: _Process) -> GatheredBatch:
        """Do the batch's step without its models, which said already what they say."""
        record = prepared.record
        taken = [TakenEvent(one.position, one.event) for one in prepared.events]
        batch = Batch(record.batch_id, taken)
        options = pipeline_options(self._settings, record.process_id, self._privacy_key)
        view = await self._store.apply(state_step(batch, options, b""))
        return GatheredBatch(batch, record.runs, view, process.pipeline.serving.releases, ())

    def _process(self, prepared: PreparedBatch) -> _Process:
        """Return the process of a batch, bound to the batch's releases."""
        record, models, candidate = prepared.record, prepared.models, prepared.candidate
        process = self._processes.get(record.process_id)
        if process is None:
            options = pipeline_options(self._settings, record.process_id, self._privacy_key)
            pipeline = Pipeline(
                models=models, store=self._store, clock=lambda: self._now, options=options
            )
            known = self._releases.product_vectors
            process = _Process(pipeline, RecordedCatalogue(self._recording, models.trunk, known))
            self._processes[record.process_id] = process
        wanted = None
        if candidate is not None and record.trial is not None:
            wanted = Trial(candidate, record.trial.share)
        serving = process.pipeline.serving
        if (serving.models, _trial_key(serving.trial)) != (models, _trial_key(wanted)):
            process.pipeline.swap(models, wanted)
        for one in process.pipeline.serving.all_models:
            process.catalogue.serve(one.trunk)
        return process

    def _count(self, prepared: PreparedBatch, outcome: Outcome | None) -> None:
        report = self.report
        report.batches += 1
        report.events += len(prepared.events)
        report.unconfirmed += outcome is None
        report.results += len(outcome.results) if outcome is not None else 0
        release = prepared.models.release
        report.releases[release] = report.releases.get(release, 0) + 1
        if prepared.timestamp_ms >= 0:
            first = report.first_ms
            report.first_ms = (
                prepared.timestamp_ms if first < 0 else min(first, prepared.timestamp_ms)
            )
            report.last_ms = max(report.last_ms, prepared.timestamp_ms)
        for one in prepared.events:
            if isinstance(one.event, InvalidEvent):
                place = f"{':'.join(map(str, one.position))} ({one.event.code})"
                self._recording.faults.note("invalid-event", place)


def _times(prepared: PreparedBatch) -> list[int]:
    return [one.at_ms for one in prepared.events]


def _trial_key(trial: Trial | None) -> tuple[PipelineModels, float] | None:
    return None if trial is None else (trial.candidate, trial.share)
