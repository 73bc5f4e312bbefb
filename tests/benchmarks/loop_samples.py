"""The samples that a worker would make of events in order, without a worker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from models.recommendation.shopper import ShopperEvent
from models.sample import Sample
from worker.events.decode import InvalidEvent
from worker.events.event import Event, Forget, Purchase, Return, Review, Search
from worker.pipeline.changes import history_event
from worker.pipeline.options import PipelineOptions
from worker.pipeline.samples import SampleMaker


def samples_of(events: Iterable[Event | InvalidEvent]) -> Iterator[Sample]:
    """Yield the samples of events, as the worker makes them."""
    maker = SampleMaker(PipelineOptions(process_id="loop", privacy_key=b"loop"))
    histories: defaultdict[str, list[ShopperEvent]] = defaultdict(list)
    for event in events:
        if isinstance(event, Forget):
            histories.pop(event.user_id, None)
            yield maker.of_forget(event)
            continue
        if not isinstance(event, Purchase | Search | Return | Review):
            continue
        history = histories[event.user_id]
        history.append(history_event(event))
        history.sort(key=lambda one: one.order)
        if isinstance(event, Purchase):
            yield from maker.of_purchase(event, history)
        elif isinstance(event, Return):
            yield maker.of_return(event)
        elif isinstance(event, Review):
            sample = maker.of_review(event)
            if sample is not None:
                yield sample


def moment_of(sample: Sample) -> datetime:
    """Return when what a sample tells happened."""
    return datetime.fromisoformat(sample.occurred_at).astimezone(UTC)
