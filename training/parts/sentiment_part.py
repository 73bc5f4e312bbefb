"""The sentiment head, from reviews with stars: trained on the frozen trunk of the release."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.releases.folder import HEADS
from models.text.sentiment import LABELS, SentimentHead, load, save
from training.data.reviews import NEGATIVE, NEUTRAL, POSITIVE, LabeledReview
from training.dataset import Kind, Row
from training.evaluation.cases import Evaluation, classification
from training.parts.part import NotTrainable, Pace, PartContext, TrainablePart
from training.tasks.train_sentiment import (
    SentimentTraining,
    TooFewReviews,
    calibrate,
    extract_features,
    fit,
    report,
)

_VALIDATION_SHARE = 0.15


class SentimentPart:
    """Negative, neutral, positive of a review's text."""

    name = "sentiment"
    kinds: tuple[Kind, ...] = ("review",)
    bound: tuple[TrainablePart, ...] = ()
    pace = Pace()

    def __init__(self, options: SentimentTraining | None = None) -> None:
        """Train with these options; a head that goes on from another takes smaller steps."""
        self._options = options or SentimentTraining()

    def standing(self, release: Path) -> Path | None:
        """Return the head's folder in a release."""
        folder = release / HEADS / self.name
        return folder if folder.is_dir() else None

    def reads_trunk(self, folder: Path) -> bool:
        """Say that a head reads the states of the trunk it was trained on."""
        return True

    def train(
        self, context: PartContext, rows: Sequence[Row], start: Path | None, out: Path
    ) -> dict[str, Any]:
        """Train a head, from the standing one where its shape fits, and calibrate it."""
        import torch

        torch.manual_seed(context.seed)
        reviews = [_labeled(row) for row in rows if str(row["text"]).strip()]
        parts: dict[bool, list[LabeledReview]] = {True: [], False: []}
        for review in reviews:
            parts[_is_validation(review.text)].append(review)
        lacking = {NEGATIVE, NEUTRAL, POSITIVE} - {review.label for review in parts[False]}
        if lacking or not parts[True]:
            names = ", ".join(LABELS[label] for label in sorted(lacking)) or "held-out"
            raise NotTrainable(
                f"there are no {names} reviews among the {len(reviews):,} to learn from: all of "
                "negative, neutral and positive are needed"
            )
        head, going_on = self._begin(context, start)
        options = replace(self._options, seed=context.seed)
        if going_on and not context.has_new_trunk:
            options = replace(options, learning_rate=options.learning_rate / 3)
        sets = {held: extract_features(context.trunk, head, some) for held, some in parts.items()}
        try:
            fit(head, sets[False], sets[True], options)
        except TooFewReviews as error:
            raise NotTrainable(str(error)) from error
        calibrate(head, sets[True])
        figures = report(head, sets[True])
        lineage = {
            "trunk": context.trunk.release,
            "trunk_weights": context.trunk.trunk_release.weights_checksum,
            "rows": {"train": len(parts[False]), "validation": len(parts[True])},
            "seed": context.seed,
            "max_tokens": context.max_tokens,
            "warm_start": going_on,
        }
        save(head, out, name=self.name, lineage=lineage)
        return {"validation_accuracy": figures.accuracy.value, **lineage}

    def evaluate(
        self,
        context: PartContext,
        folders: Sequence[Path | None],
        known: Sequence[Row],
        tested: Sequence[Row],
    ) -> list[Evaluation]:
        """Judge heads by accuracy, macro F1 and calibration; no head: the classes' own shares."""
        trunk = context.trunk
        names = [f"sentiment-{number}" for number in range(len(folders))]
        for name, folder in zip(names, folders, strict=True):
            if folder is not None:
                trunk.add_head(name, load(folder))
        reviews = [_labeled(row) for row in tested]
        tokens = trunk.tokenize([review.text for review in reviews], "passage")
        asked = {
            name: range(len(reviews))
            for name, folder in zip(names, folders, strict=True)
            if folder is not None
        }
        found = trunk.encode(tokens, asked).heads
        truth = [review.label for review in reviews]
        shares = _shares(known, len(reviews))
        return [classification(truth, found[name] if name in asked else shares) for name in names]

    def _begin(self, context: PartContext, start: Path | None) -> tuple[SentimentHead, bool]:
        trunk = context.trunk
        standing = load(start) if start is not None else None
        known = ("", trunk.trunk_release.weights_checksum)
        # A trunk that was trained a little further still speaks much as its parent did.
        if standing is not None and standing.width == trunk.width and (
            standing.trunk_weights in known or context.has_new_trunk
        ):  # fmt: skip
            return standing, True
        network: Any = trunk.network
        depth = int(network.config.num_hidden_layers)
        return SentimentHead(trunk.width, self._options.layers or (depth // 2, depth)), False


def _labeled(row: Row) -> LabeledReview:
    stars = float(row["stars"])
    label = NEGATIVE if stars <= 2 else NEUTRAL if stars < 4 else POSITIVE
    return LabeledReview(str(row["text"]).strip(), label, binary=False)


def _is_validation(text: str) -> bool:
    # by text, so that the same words are never on both sides
    place = hashlib.sha256(" ".join(text.split()).encode("utf-8", "replace")).digest()[0]
    return place < 256 * _VALIDATION_SHARE


def _shares(known: Sequence[Row], count: int) -> NDArray[np.float64]:
    labels = [_labeled(row).label for row in known]
    shares = np.bincount(labels, minlength=len(LABELS)) + 1.0
    table: NDArray[np.float64] = np.tile(shares / shares.sum(), (count, 1))
    return table
