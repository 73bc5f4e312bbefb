"""Recorded batches read ahead: events decoded, releases at hand, texts encoded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from worker.events.decode import EventLimits, InvalidEvent
from worker.events.event import Event
from worker.flow.assembly import pipeline_options
from worker.pipeline.records import BatchRecord
from worker.pipeline.stages import PipelineModels
from worker.pipeline.vector_cache import TextKey
from worker.replay.following.order import BatchOrder
from worker.replay.likely_passages import likely_passages
from worker.replay.prefetch import ReadAhead, prefetch_events, text_size
from worker.replay.recordings.merge import RecordedEvent, decode_stored
from worker.replay.recordings.recording import Recording
from worker.replay.releases import ReleaseGone, Releases
from worker.settings import Settings
from worker.store.contract import StateStore

_PREFETCH_BATCHES = 256


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """A batch to be done again."""

    record: BatchRecord
    models: PipelineModels
    candidate: PipelineModels | None
    events: Sequence[RecordedEvent]
    timestamp_ms: int  # of the newest record
    judged: bool  # whether other releases are asked too

    @property
    def all_models(self) -> list[PipelineModels]:
        """The models it was bound to."""
        return [one for one in (self.models, self.candidate) if one is not None]


class BatchReader:
    """Yields batches while the texts of the next ones are being encoded."""

    def __init__(
        self,
        recording: Recording,
        order: BatchOrder,
        releases: Releases,
        settings: Settings,
        beside: Sequence[PipelineModels] = (),
        from_ms: int = -1,
        store: StateStore | None = None,
    ) -> None:
        """Read `order`; `beside` are asked about batches with an event at `from_ms` or later."""
        self._recording = recording
        self._order = order
        self._releases = releases
        self._beside = beside
        self._from_ms = from_ms
        self._store = store
        self._passages = pipeline_options(settings, "", "").passages_per_question
        self._read_ahead = ReadAhead()
        self._limits = EventLimits(
            settings.max_event_bytes, settings.max_text_chars, settings.max_future_s
        )

    def ahead(
        self, thread: ThreadPoolExecutor, is_known: Callable[[], bool]
    ) -> Iterator[tuple[PreparedBatch, float]]:
        """Yield each batch with the seconds that encoding took a text.

        Nothing is encoded while `is_known` says that what models make of it is known already.
        """
        batches = iter(self._order)
        window = self._window(batches)
        encoding = self._encode(thread, (), window, is_known())
        while window:
            following = self._window(batches)
            text_s = encoding.result()
            encoding = self._encode(thread, window, following, is_known())
            for prepared in window:
                yield prepared, text_s
            window = following

    def _window(self, batches: Iterator[BatchRecord]) -> list[PreparedBatch]:
        """Return the next batches: enough text to fill the device."""
        window: list[PreparedBatch] = []
        characters = 0
        for record in islice(batches, _PREFETCH_BATCHES):
            prepared = self._prepared(record)
            window.append(prepared)
            characters += sum(text_size(one.event) for one in prepared.events)
            if characters > self._read_ahead.characters:
                break
        return window

    def _prepared(self, record: BatchRecord) -> PreparedBatch:
        candidate = None
        try:
            models = self._releases.models_for(record.release)
            if record.trial is not None:
                candidate = self._releases.models_for(record.trial.release)
        except ReleaseGone as error:
            # Without its models the batch can still do its step on the state.
            self._recording.faults.add("release-gone", f"batch {record.batch_id}: {error}")
            models = self._releases.own()
            record = record.model_copy(update={"confirmed": False, "trial": None})
        events = self._events(record)
        newest_ms = max((one.raw.timestamp_ms for one in events), default=-1)
        judged = any(one.at_ms >= self._from_ms for one in events)
        return PreparedBatch(record, models, candidate, events, newest_ms, judged)

    def _events(self, record: BatchRecord) -> list[RecordedEvent]:
        events: list[RecordedEvent] = []
        for run in record.runs:
            log = self._recording.log(run.topic, run.partition)
            found = [
                decode_stored(self._recording, run.topic, run.partition, stored, self._limits)
                for stored in log.read(run.first, run.last)
            ]
            if len(found) != run.count:
                place = f"{run.topic}:{run.partition}:{run.first}-{run.last}"
                self._recording.faults.add(
                    "missing-events",
                    f"{place} (batch {record.batch_id}: {len(found)} of {run.count} are there)",
                    abs(run.count - len(found)),
                )
            events += found
        return events

    def _encode(
        self,
        thread: ThreadPoolExecutor,
        before: Sequence[PreparedBatch],
        window: Sequence[PreparedBatch],
        is_known: bool,
    ) -> Future[float]:
        window = [] if is_known else [one for one in window if one.record.confirmed]
        events = [_valid(prepared) for prepared in window]
        asked = [event for part in events for event in part]
        coming = [event for prepared in before for event in _valid(prepared)]
        passages = likely_passages(self._store, coming, asked, self._passages)
        return thread.submit(self._prefetch, window, events, passages)

    def _prefetch(
        self,
        window: Sequence[PreparedBatch],
        events: Sequence[Sequence[Event]],
        passages: Sequence[TextKey],
    ) -> float:
        """Encode the events' own texts by each release that serves them; return seconds a text."""
        by_trunk: dict[int, tuple[PipelineModels, list[Event]]] = {}
        for prepared, valid in zip(window, events, strict=True):
            asked = [*prepared.all_models, *(self._beside if prepared.judged else ())]
            for models in {id(models.trunk): models for models in asked}.values():
                by_trunk.setdefault(id(models.trunk), (models, []))[1].extend(valid)
        started_s = time.perf_counter()
        for models, own in by_trunk.values():
            prefetch_events(models, own, passages)
        took_s = time.perf_counter() - started_s
        sizes = [text_size(event) for _, own in by_trunk.values() for event in own]
        self._read_ahead.took(sum(sizes) // max(1, len(by_trunk)), took_s)
        return took_s / max(1, sum(size > 0 for size in sizes))


def _valid(prepared: PreparedBatch) -> list[Event]:
    events = [one.event for one in prepared.events]
    return [event for event in events if not isinstance(event, InvalidEvent)]
