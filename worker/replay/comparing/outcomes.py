"""What is compared, and what is handed to whoever judges it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from models.product_index import ProductIndex
from worker.events.event import Event
from worker.pipeline.batch import Outcome
from worker.pipeline.options import PipelineOptions
from worker.pipeline.stages import PipelineModels
from worker.replay.recordings.merge import RecordedEvent
from worker.store.contract import StateView


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
    """What one arm made of an event, and the seconds that took (encoding shared out by text)."""

    outcome: Outcome
    encode_s: float
    conclude_s: float


@dataclass(frozen=True, slots=True)
class JudgedEvent:
    """An event with what every arm made of it."""

    recorded: RecordedEvent
    event: Event
    view: StateView
    outcomes: Mapping[str, ArmOutcome]
    catalogue: ProductIndex  # of the first arm; products are those of all
