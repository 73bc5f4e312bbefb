"""Candidates made on purpose, poisoned or null, and how many of them the gate lets pass.

Real heads on real reviews (Amazon musical instruments, the optional shared data): the packaged
trunk reads the reviews once, then a head is trained in a second. Reviews are drawn anew for every
trial, so that a trial is one draw of what a shop may meet.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.releases.shoppers import encode_samples
from models.text.sentiment import SentimentHead, save
from models.text_encoder import TextEncoder
from tests.benchmarks.figures import shared_file
from training.data.reviews import read_reviews
from training.evaluation.cases import Evaluation, TestCases, classification
from training.gate import Contender, GateOptions, decide
from training.tasks.train_sentiment import (
    FeatureSet,
    SentimentTraining,
    calibrate,
    extract_features,
    fit,
)
from training.weights import weight_fault

Rows = NDArray[np.int64]
TRAIN, VALIDATION, TEST = 500, 150, 500
EPOCHS = 4


@dataclass(frozen=True, slots=True)
class Reviews:
    """All reviews as features of the frozen trunk."""

    features: FeatureSet
    trunk: TextEncoder
    shape: SentimentHead

    def __len__(self) -> int:
        """Return how many reviews there are."""
        return len(self.features.labels)

    def rows(self, rows: Rows, *, flipped: bool = False) -> FeatureSet:
        """Return some reviews; `flipped`: negative said positive and the other way round."""
        labels = self.features.labels[rows]
        return FeatureSet(
            self.features.features[rows],
            2 - labels if flipped else labels,
            self.features.binary[rows],
        )


def read_real_reviews(most: int) -> Reviews:
    """Read the reviews through the packaged trunk."""
    path = shared_file("data", "reviews", "amazon_musical_instruments_5core.jsonl.gz")
    found = read_reviews(path, "reviewText", "overall")
    draw = np.random.default_rng(1).permutation(len(found))[:most]
    trunk = TextEncoder.load("", device="cpu", max_tokens=64)
    shape = SentimentHead(trunk.width, (3, 6))
    return Reviews(extract_features(trunk, shape, [found[i] for i in draw]), trunk, shape)


@dataclass(frozen=True, slots=True)
class Draw:
    """One trial's reviews: two training sets that do not meet, and a test slice."""

    first: Rows
    second: Rows
    test: Rows

    @classmethod
    def of(cls, reviews: Reviews, generator: np.random.Generator) -> Draw:
        """Draw the three parts at random."""
        order = generator.permutation(len(reviews))
        size = TRAIN + VALIDATION
        return cls(order[:size], order[size : 2 * size], order[2 * size : 2 * size + TEST])


def train(reviews: Reviews, rows: Rows, seed: int, *, flipped: bool = False) -> SentimentHead:
    """Train and calibrate a head on rows."""
    torch.manual_seed(seed)
    head = SentimentHead(reviews.trunk.width, reviews.shape.layers)
    learnt = reviews.rows(rows[VALIDATION:], flipped=flipped)
    held = reviews.rows(rows[:VALIDATION], flipped=flipped)
    fit(head, learnt, held, SentimentTraining(seed=seed, epochs=EPOCHS))
    calibrate(head, held)
    return head


@torch.no_grad()
def judge(head: SentimentHead, reviews: Reviews, rows: Rows) -> Evaluation:
    """Evaluate a head as the job does."""
    part = reviews.rows(rows)
    probabilities = torch.softmax(head(part.features) / head.temperature, dim=-1).numpy()
    return classification(part.labels.tolist(), probabilities)


def cases(rows: Rows) -> TestCases:
    """Return a test slice; every review is its own shopper's."""
    names = [f"s{row}" for row in rows]
    return TestCases(names, names, ["en"] * len(rows))


def passes(candidate: Contender, current: SentimentHead, reviews: Reviews, draw: Draw) -> bool:
    """Ask the gate."""
    serving = Contender("current", judge(current, reviews, draw.test))
    return decide("sentiment", candidate, serving, cases(draw.test), GateOptions()).passed


def flipped_labels(reviews: Reviews, draw: Draw, seed: int) -> Contender:
    """Trained on labels turned round."""
    head = train(reviews, draw.second, seed, flipped=True)
    return Contender("flipped", judge(head, reviews, draw.test))


def noised_weights(reviews: Reviews, draw: Draw, seed: int) -> Contender:
    """The current head with noise of the weights' own size on them."""
    head = copy.deepcopy(train(reviews, draw.first, seed))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in head.parameters():
            scale = weight.std() if weight.numel() > 1 else weight.abs().mean()
            weight += torch.randn(weight.shape, generator=generator) * scale
    return Contender("noised", judge(head, reviews, draw.test))


def nan_weights(reviews: Reviews, draw: Draw, seed: int) -> Contender:
    """A better head one of whose weights is no number, as it lies on disk."""
    head = train(reviews, draw.second, seed)
    with torch.no_grad():
        head.hidden.weight.view(-1)[seed % head.hidden.weight.numel()] = float("nan")
    with tempfile.TemporaryDirectory() as folder:
        save(head, Path(folder), name="nan", lineage={})
        fault = weight_fault(Path(folder))
    return Contender("nan", judge(head, reviews, draw.test), fault=fault)


def learnt_by_heart(reviews: Reviews, draw: Draw, seed: int) -> Contender:
    """Trained on a part of the test slice too, as its sample list says."""
    leaked = np.random.default_rng(seed).choice(draw.test, TEST // 2, replace=False)
    rows = np.concatenate([draw.second, leaked])
    head = train(reviews, rows, seed)
    samples = encode_samples(f"s{row}" for row in rows)
    return Contender("leaked", judge(head, reviews, draw.test), samples)


def null(reviews: Reviews, draw: Draw, seed: int) -> Contender:
    """As good as the current head: trained likewise on other reviews, as many."""
    head = train(reviews, draw.second, seed + 1)
    samples = encode_samples(f"s{row}" for row in draw.second)
    return Contender("null", judge(head, reviews, draw.test), samples)


POISONS: Mapping[str, Callable[[Reviews, Draw, int], Contender]] = {
    "labels flipped": flipped_labels,
    "weights noised": noised_weights,
    "NaN weight": nan_weights,
    "trained on the test slice": learnt_by_heart,
}
