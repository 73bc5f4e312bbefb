"""Trains a sentiment head on a frozen trunk: features once, then a small network in seconds.

Loss: cross-entropy with class weights over the three labels. Where a data set knows only negative
and positive, neutral is not wrong, only unsaid: such rows are scored on the two labels they chose
between (partial labels, Jin and Ghahramani 2002), so that they teach the sign and leave the neutral
class to the data that has one.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from models.metrics import ClassificationReport, evaluate_classification
from models.text.sentiment import LABELS, SentimentHead
from models.text_encoder import TextEncoder, TokenStates
from training.data.reviews import NEGATIVE, NEUTRAL, POSITIVE, LabeledReview, Part, part_of
from training.losses import partial_label_losses

logger = logging.getLogger(__name__)

PATIENCE_EPOCHS = 8
BATCH_REVIEWS = 32
_CHUNK_REVIEWS = 512


class TooFewReviews(ValueError):
    """There is nothing to learn from; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class SentimentTraining:
    """What is trained, on which rows; `max_reviews` a class and data set, 0: all."""

    seed: int = 7
    epochs: int = 60
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    max_reviews: int = 0
    layers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """Rows ready for the head: features (N, F), labels (N,), whether the source was binary (N,)."""

    features: Tensor
    labels: Tensor
    binary: Tensor


class _FeatureReader:
    """A head that gives what the sentiment head reads: one way from text to features for both."""

    release = "features"

    def __init__(self, head: SentimentHead) -> None:
        self.classes = head.norm.normalized_shape[0]
        self._head = head

    def probabilities(self, states: TokenStates) -> Tensor:
        return self._head.features(states)

    def to(self, device: torch.device) -> _FeatureReader:
        return self


def train_sentiment(
    trunk: TextEncoder, reviews: Sequence[LabeledReview], options: SentimentTraining
) -> tuple[SentimentHead, ClassificationReport, dict[str, int]]:
    """Return the head, its report on the test part, and the rows of each part.

    The parts are cut by a hash of the text (`part_of`). Raises TooFewReviews.
    """
    torch.manual_seed(options.seed)
    depth = int(cast(Any, trunk.network).config.num_hidden_layers)
    head = SentimentHead(trunk.width, options.layers or (depth // 2, depth))
    parts = part_reviews(reviews, options)
    return head, fit_head(trunk, head, parts, options), count_rows(parts)


def part_reviews(
    reviews: Sequence[LabeledReview], options: SentimentTraining
) -> dict[Part, list[LabeledReview]]:
    """Return the reviews of each part, cut by a hash of the text; raises TooFewReviews."""
    parts: dict[Part, list[LabeledReview]] = {"train": [], "validation": [], "test": []}
    for review in _chosen(reviews, options):
        parts[part_of(review.text)].append(review)
    if {review.label for review in parts["train"]} != {NEGATIVE, NEUTRAL, POSITIVE}:
        raise TooFewReviews(
            "the training part must hold negative, neutral and positive reviews; add a file with "
            "stars from 1 to 5"
        )
    if not parts["validation"] or not parts["test"]:
        raise TooFewReviews("too few reviews to hold some out; a few hundred are the least")
    return parts


def count_rows(parts: Mapping[Part, Sequence[LabeledReview]]) -> dict[str, int]:
    """Return how many reviews each part holds."""
    return {name: len(rows) for name, rows in parts.items()}


def fit_head(
    trunk: TextEncoder,
    head: SentimentHead,
    parts: Mapping[Part, Sequence[LabeledReview]],
    options: SentimentTraining,
) -> ClassificationReport:
    """Fit and calibrate a head on a frozen trunk; return its report on the test part."""
    sets = {name: extract_features(trunk, head, rows) for name, rows in parts.items()}
    fit(head, sets["train"], sets["validation"], options)
    calibrate(head, sets["validation"])
    return report(head, sets["test"])


@torch.inference_mode()
def extract_features(
    trunk: TextEncoder, head: SentimentHead, reviews: Sequence[LabeledReview]
) -> FeatureSet:
    """Run the trunk over the reviews, with progress in the log."""
    reader = _FeatureReader(head)
    trunk.add_head(reader.release, reader)
    found: list[Tensor] = []
    for start in range(0, len(reviews), _CHUNK_REVIEWS):
        chunk = reviews[start : start + _CHUNK_REVIEWS]
        tokens = trunk.tokenize([review.text for review in chunk], "passage")
        encodings = trunk.encode(tokens, {reader.release: range(len(chunk))})
        found.append(torch.from_numpy(encodings.heads[reader.release]))
        logger.info("%d of %d reviews read", start + len(chunk), len(reviews))
    return FeatureSet(
        torch.cat(found),
        torch.tensor([review.label for review in reviews]),
        torch.tensor([review.binary for review in reviews]),
    )


def fit(
    head: SentimentHead, train: FeatureSet, validation: FeatureSet, options: SentimentTraining
) -> None:
    """Train the head; the weights of the best validation loss stay. Raises TooFewReviews on NaN."""
    weights = class_weights(train.labels)
    optimizer = torch.optim.AdamW(
        head.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
    )
    generator = torch.Generator().manual_seed(options.seed)
    best, kept, waited = float("inf"), head.state_dict(), 0
    for epoch in range(options.epochs):
        head.train()
        order = torch.randperm(len(train.labels), generator=generator)
        for rows in torch.split(order, BATCH_REVIEWS):
            optimizer.zero_grad()
            losses = partial_label_losses(
                head(train.features[rows]), train.labels[rows], train.binary[rows]
            )
            row_weights = weights[train.labels[rows]]
            loss = (losses * row_weights).sum() / row_weights.sum()
            if not torch.isfinite(loss):
                raise TooFewReviews("the loss is not a number; try a lower learning rate")
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        head.eval()
        score = _validation_loss(head, validation, weights)
        logger.info("epoch %d: validation loss %.4f", epoch + 1, score)
        if score < best:
            best, waited = score, 0
            kept = {key: value.clone() for key, value in head.state_dict().items()}
        else:
            waited += 1
            if waited >= PATIENCE_EPOCHS:
                break
    head.load_state_dict(kept)
    head.eval()


def calibrate(head: SentimentHead, validation: FeatureSet) -> None:
    """Set the temperature that gives the validation part the least loss, unweighted."""
    with torch.no_grad():
        logits = head(validation.features)
        candidates = torch.arange(0.5, 4.0, 0.05)
        losses = [
            float(partial_label_losses(logits / t, validation.labels, validation.binary).mean())
            for t in candidates
        ]
        cast(Tensor, head.temperature).copy_(candidates[int(np.argmin(losses))])


@torch.no_grad()
def report(head: SentimentHead, rows: FeatureSet) -> ClassificationReport:
    """Return accuracy, macro F1 and calibration error with intervals.

    Rows of a binary source are judged on the two labels they chose between.
    """
    logits = head(rows.features) / cast(Tensor, head.temperature)
    logits[rows.binary, NEUTRAL] = float("-inf")
    probabilities = torch.softmax(logits, dim=-1).numpy()
    return evaluate_classification(rows.labels.tolist(), probabilities, LABELS)


@torch.no_grad()
def _validation_loss(head: SentimentHead, rows: FeatureSet, weights: Tensor) -> float:
    losses = partial_label_losses(head(rows.features), rows.labels, rows.binary)
    row_weights = weights[rows.labels]
    return float((losses * row_weights).sum() / row_weights.sum())


def class_weights(labels: Tensor) -> Tensor:
    """Return the weight of each label (3), their mean 1, from the labels of the rows (N)."""
    # The square root: between one vote a review and one vote a class.
    counts = torch.bincount(labels, minlength=len(LABELS)).float()
    weights = (counts.sum() / counts).sqrt()
    return weights / weights.mean()


def _chosen(
    reviews: Sequence[LabeledReview], options: SentimentTraining
) -> Sequence[LabeledReview]:
    """Return the reviews, the classes of a source cut to `max_reviews` by a seeded draw."""
    if not options.max_reviews:
        return reviews
    groups: dict[tuple[int, bool], list[LabeledReview]] = {}
    for review in reviews:
        groups.setdefault((review.label, review.binary), []).append(review)
    draw = random.Random(options.seed)
    return [
        review
        for group in groups.values()
        for review in draw.sample(group, min(len(group), options.max_reviews))
    ]
