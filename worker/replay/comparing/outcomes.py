"""What is compared, and what is handed to whoever judges it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from models.product_index import ProductIndex
from worker.events.decode import InvalidEvent
from worker.events.event import Event
from worker.pipeline.batch import Outcome, OutMessage
from worker.pipeline.options import PipelineOptions
from worker.pipeline.stages import PipelineModels
from worker.replay.recordings.merge import RecordedEvent
from worker.store.contract import ResultWrite, StateView


@dataclass(frozen=True, slots=True)
class ArmSpec:
    """One release with its settings, under a name of its own."""

    name: str
    models: PipelineModels
    options: PipelineOptions
    described: str = ""

    def as_json(self) -> dict[str, str]:
        """Return what the document says of it."""
        return {"name": self.name, "release": self.models.release, "described": self.described}


@dataclass(frozen=True, slots=True)
class ArmOutcome:
    """What one arm made of events, and the seconds that took (encoding shared out by text)."""

    outcome: Outcome
    encode_s: float
    conclude_s: float

    def part(
        self, results: Sequence[ResultWrite], messages: Sequence[OutMessage], events: int
    ) -> ArmOutcome:
        """Return what one of so many events has of it; the seconds are shared out evenly."""
        outcome = replace(self.outcome, results=results, messages=messages)
        return ArmOutcome(outcome, self.encode_s / events, self.conclude_s / events)


@dataclass(frozen=True, slots=True)
class JudgedEvent:
    """An event with what every arm made of it."""

    recorded: RecordedEvent
    event: Event
    view: StateView
    outcomes: Mapping[str, ArmOutcome]
    catalogue: ProductIndex  # of the first arm; products are those of all


def judged_events(
    part: Sequence[RecordedEvent],
    view: StateView,
    outcomes: Mapping[str, ArmOutcome],
    catalogue: ProductIndex,
) -> list[JudgedEvent]:
    """Return the events of a batch, each with its own messages and its share of the seconds.

    All have all results: those of the others bear other shoppers' and events' names.
    """
    found: list[JudgedEvent] = []
    for one in part:
        assert not isinstance(one.event, InvalidEvent)
        event_id = one.event.event_id
        shares = outcomes
        if len(part) > 1:
            shares = {name: _share(made, event_id, len(part)) for name, made in outcomes.items()}
        found.append(JudgedEvent(one, one.event, view, shares, catalogue))
    return found


def _share(made: ArmOutcome, event_id: str, events: int) -> ArmOutcome:
    messages = [message for message in made.outcome.messages if message.event_id == event_id]
    return made.part(made.outcome.results, messages, events)
