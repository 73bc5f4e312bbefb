"""The interface of a part, so that the job trains what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from models.releases.folder import PRODUCT_VECTORS
from models.search.product_vectors import ProductVectors, load_product_vectors
from models.text_encoder import TextEncoder
from training.dataset import Kind, Row
from training.evaluation.cases import Evaluation


class NotTrainable(ValueError):
    """The samples cannot train this part; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What a part costs: a dear one waits for more new samples, and learns from the newest."""

    wakes_after: int = 1  # times the job's least number of new samples
    max_samples: int | None = None


@dataclass(frozen=True)
class PartContext:
    """What every part may use. `release` is the folder of the current release: never edit it."""

    release: Path
    scratch: Path  # what a long training keeps here outlives a kill; gone when the job has ended
    threads: int = 1
    device: str = "cpu"
    seed: int = 7
    max_tokens: int = 128
    new_trunk: Path | None = None  # a trunk that this job trained, to be used instead
    origin: Path | None = None  # a trunk that has seen no samples, to begin with from nothing

    @property
    def has_new_trunk(self) -> bool:
        """Say whether the trunk is not that of the current release."""
        return self.new_trunk is not None

    @cached_property
    def trunk(self) -> TextEncoder:
        """The text trunk that parts read, loaded when one first wants it."""
        return self.load_trunk(self._folder)

    @cached_property
    def product_vectors(self) -> ProductVectors | None:
        """The vectors of products by `trunk` that stand beside it, if any."""
        folder = self._folder / PRODUCT_VECTORS
        return load_product_vectors(folder, self.trunk) if folder.is_dir() else None

    def load_trunk(self, folder: Path) -> TextEncoder:
        """Load a trunk as this job uses it."""
        return TextEncoder.load(
            folder, device=self.device, threads=self.threads, max_tokens=self.max_tokens
        )

    @property
    def _folder(self) -> Path:
        return self.new_trunk or self.release


class TrainablePart(Protocol):
    """One part of a release that learns from one kind of samples."""

    @property
    def name(self) -> str:
        """The part's name in a manifest: sentiment, recommender …"""
        ...

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of samples it learns from."""
        ...

    @property
    def bound(self) -> Sequence[TrainablePart]:
        """The parts that read this one, and must be trained anew where it changes."""
        ...

    @property
    def pace(self) -> Pace:
        """How often it is trained, and on how much."""
        ...

    def reads_trunk(self, folder: Path) -> bool:
        """Say whether a folder of this part fits no other trunk than the one it was trained on."""
        ...

    def standing(self, release: Path) -> Path | None:
        """Return the folder of this part in a release, None where it has none."""
        ...

    def train(
        self, context: PartContext, rows: Sequence[Row], start: Path | None, out: Path
    ) -> dict[str, Any]:
        """Train on rows (oldest first) and write the part into the new folder `out`.

        `start` is the standing part to go on from; None: from nothing. Returns figures for the
        manifest. Raises NotTrainable.
        """
        ...

    def evaluate(
        self,
        context: PartContext,
        folders: Sequence[Path | None],
        known: Sequence[Row],
        tested: Sequence[Row],
    ) -> list[Evaluation]:
        """Judge each folder on the tested rows, in their order.

        None stands for a release without this part, and is judged by what serves then; `known`
        are the rows from before the test.
        """
        ...
