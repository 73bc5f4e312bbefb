"""The samples that a worker would make of events in order, without a worker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from models.recommendation.shopper import ShopperEvent
from models.sample import Sample
from worker.events.decode import InvalidEvent
from worker.events.event import Event, Forget, Product, ProductRemoved, Question
from worker.pipeline.changes import history_event
from worker.pipeline.options import PipelineOptions
from worker.pipeline.samples import SampleMaker
from worker.topics.sample_set import SampleSet


def samples_of(events: Iterable[Event | InvalidEvent]) -> Iterator[Sample]:
    """Yield the samples of events, as the worker makes them."""
    maker = SampleMaker(PipelineOptions(process_id="loop", privacy_key=b"loop"))
    histories: defaultdict[str, list[ShopperEvent]] = defaultdict(list)
    for event in events:
        if isinstance(event, InvalidEvent | Question | Product | ProductRemoved):
            continue
        if isinstance(event, Forget):
            histories.pop(event.user_id, None)
        else:
            histories[event.user_id].append(history_event(event))
            histories[event.user_id].sort(key=lambda one: one.order)
        yield from maker.of_event(event, histories.get(event.user_id, ()))


def known_by(samples: Iterable[Sample], moment: datetime) -> SampleSet:
    """Return the samples of what happened before a moment, as an export of then holds them."""
    found = SampleSet()
    for sample in samples:
        if moment_of(sample) < moment:
            found.add(sample.model_dump_json().encode())
    return found


def moment_of(sample: Sample) -> datetime:
    """Return when what a sample tells happened."""
    return datetime.fromisoformat(sample.occurred_at).astimezone(UTC)
