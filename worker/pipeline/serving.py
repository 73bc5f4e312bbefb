"""Which models a batch meets: the current release, and the candidate of an A/B trial beside it.

`Serving` never changes; a swap puts another one in its place between two batches. A batch is bound
to the one that stands when it is taken, and every step of it uses that one alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from worker.events.decode import InvalidEvent
from worker.events.event import Event, Product, ProductRemoved
from worker.pipeline.privacy import pseudonym
from worker.pipeline.records import BatchReleases, TrialRecord
from worker.pipeline.stages import Arm, LiveEvent, PipelineModels


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A candidate that serves a share (0 to 1) of the shoppers."""

    candidate: PipelineModels
    share: float

    def __post_init__(self) -> None:
        """Refuse a share that is none."""
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"a share of {self.share} is not between 0 and 1")


@dataclass(frozen=True, slots=True, eq=False)
class Serving:
    """The models that batches are bound to now."""

    models: PipelineModels
    trial: Trial | None = None

    @property
    def all_models(self) -> tuple[PipelineModels, ...]:
        """Every arm's models, the current release first."""
        return (self.models,) if self.trial is None else (self.models, self.trial.candidate)

    @property
    def trunks(self) -> frozenset[str]:
        """The releases of the text trunks, whose vectors the product index must hold."""
        return frozenset(models.trunk.release for models in self.all_models)

    @property
    def releases(self) -> BatchReleases:
        """What the record of a batch says of its models."""
        trial = None
        if self.trial is not None:
            candidate = self.trial.candidate
            trial = TrialRecord(
                release=candidate.release, trunk=candidate.trunk.release, share=self.trial.share
            )
        return BatchReleases(
            release=self.models.release, trunk=self.models.trunk.release, trial=trial
        )

    def arms(
        self, live: Sequence[LiveEvent], privacy_key: bytes
    ) -> Iterator[tuple[PipelineModels, Arm | None, list[LiveEvent]]]:
        """Yield each arm's models, its name (None: no trial runs) and its events of a batch.

        Only shoppers are tried on: products, and what the shop asks, belong to the current release.
        """
        if self.trial is None:
            yield self.models, None, list(live)
            return
        shares: dict[Arm, list[LiveEvent]] = {"current": [], "candidate": []}
        for item in live:
            shares[self.arm_of(item.event, privacy_key)].append(item)
        yield self.models, "current", shares["current"]
        yield self.trial.candidate, "candidate", shares["candidate"]

    def arm_of(self, event: Event | InvalidEvent, privacy_key: bytes) -> Arm:
        """Return the arm that an event belongs to, by its shopper."""
        if self.trial is None or isinstance(event, InvalidEvent | Product | ProductRemoved):
            return "current"
        shopper = pseudonym(event.user_id, privacy_key)
        return arm_of(shopper, self.trial.candidate.release, self.trial.share)


def arm_of(shopper: str, trial: str, share: float) -> Arm:
    """Return a shopper's arm: the same in every worker and at every time of one trial.

    Args:
        shopper: the shopper's pseudonym.
        trial: the candidate's release id, so that every trial draws other shoppers.
        share: the candidate's share; whoever is drawn stays drawn when it is raised.
    """
    digest = hashlib.sha256(f"{trial}\n{shopper}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    return "candidate" if place < share else "current"
