"""How a sentiment head does on labeled reviews."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.metrics import ClassificationReport, evaluate_classification
from models.text.sentiment import LABELS, SentimentHead
from models.text_encoder import TextEncoder
from training.data.reviews import NEUTRAL, LabeledReview

_HEAD = "sentiment"


def evaluate_sentiment(
    trunk: TextEncoder, head: SentimentHead, reviews: Sequence[LabeledReview]
) -> ClassificationReport:
    """Return accuracy, macro F1 and calibration error on the reviews, with 95 % intervals.

    Where the labels know no neutral, the head chooses between negative and positive.
    """
    trunk.add_head(_HEAD, head)
    tokens = trunk.tokenize([review.text for review in reviews], "passage")
    probabilities = trunk.encode(tokens, {_HEAD: range(len(reviews))}).heads[_HEAD].copy()
    binary = np.array([review.binary for review in reviews])
    probabilities[binary, NEUTRAL] = 0
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return evaluate_classification([review.label for review in reviews], probabilities, LABELS)
