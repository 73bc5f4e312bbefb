"""What a batch carries from stage to stage, and the models it meets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.answerer import Answerer, Passage
from models.faq import FaqEntry
from models.recommendation.shopper import Recommender
from models.text_encoder import TextTrunk, Tokens
from worker.events.event import Event, Question
from worker.pipeline.batch import Batch, TakenEvent
from worker.pipeline.records import BatchReleases, Run
from worker.pipeline.vector_cache import TextKey
from worker.store.contract import StateView

Vector = NDArray[np.float32]
Arm = Literal["current", "candidate"]  # of an A/B trial


@dataclass(frozen=True, slots=True, eq=False)
class PipelineModels:
    """The models of one release; `release` names the whole, `trunk.release` its text trunk."""

    trunk: TextTrunk
    recommender: Recommender
    answerer: Answerer
    faq: Sequence[FaqEntry] = ()
    has_sentiment: bool = True  # whether the trunk carries the head "sentiment"
    release: str = ""  # what results and batch records name; empty: the trunk's

    def __post_init__(self) -> None:
        """Name models that come from no release folder by their trunk."""
        if not self.release:
            object.__setattr__(self, "release", self.trunk.release)


@dataclass(frozen=True, slots=True)
class LiveEvent:
    """A valid event of a shopper who is not forgotten, with its place in the batch."""

    row: int  # index into `Batch.events`
    taken: TakenEvent
    event: Event


@dataclass(frozen=True, slots=True)
class GatheredArm:
    """The events of a batch that one release serves, and every text it will read, each once."""

    models: PipelineModels
    arm: Arm | None  # None: no trial runs
    view: StateView
    live: Sequence[LiveEvent]
    own_texts: Mapping[int, TextKey]  # row -> the event's own text
    passages: Mapping[int, Sequence[Passage]]  # row of a question -> passages to choose from
    known: Mapping[TextKey, Vector]  # vectors the cache had
    to_encode: Mapping[TextKey, Tokens]  # the rest
    reviews: Sequence[TextKey]  # texts among `to_encode` whose sentiment is asked


@dataclass(frozen=True, slots=True)
class GatheredBatch:
    """A batch with the state it met, bound to its releases: one arm, or two in a trial."""

    batch: Batch
    runs: Sequence[Run]
    view: StateView
    releases: BatchReleases
    arms: Sequence[GatheredArm]  # the current release's first


@dataclass(frozen=True, slots=True)
class EncodedArm:
    """An arm after its one trunk pass."""

    gathered: GatheredArm
    texts: Mapping[TextKey, Vector]  # every text of the arm, its histories and passages
    sentiment: Mapping[TextKey, NDArray[np.float32]]  # a review's text -> (3,) probabilities

    def own(self, row: int) -> Vector:
        """Return the vector of the own text of the event in this row of the batch."""
        return self.texts[self.gathered.own_texts[row]]


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """A batch after one trunk pass an arm."""

    gathered: GatheredBatch
    arms: Sequence[EncodedArm]


def questions_of(live: Sequence[LiveEvent]) -> list[tuple[LiveEvent, Question]]:
    """Return the questions among the events."""
    return [(item, item.event) for item in live if isinstance(item.event, Question)]
