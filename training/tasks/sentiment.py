"""Sentiment as a task of the trunk: the head reads its token states, and its loss reaches down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.release import Pooling
from models.text.sentiment import SentimentHead
from models.text_encoder import TokenStates, pool
from training.data.reviews import LabeledReview
from training.language.examples import pad_ids
from training.language.language_model import LanguageModel
from training.language.token_store import TokenStore
from training.loop.schedule import Draw
from training.losses import partial_label_losses
from training.tasks.pairs import TextTokens
from training.tasks.train_sentiment import class_weights


class SentimentTask:
    """L_task of labeled reviews: cross-entropy with class weights and partial labels."""

    def __init__(
        self,
        reviews: Sequence[LabeledReview],
        head: SentimentHead,
        tokens: TextTokens,
        folder: Path,
        *,
        pad_id: int,
        pooling: Pooling,
        prefix: str = "",
    ) -> None:
        """Tokenize the reviews into `folder`; `prefix` stands before each text."""
        self.module = head
        self._store = TokenStore.of(folder, (tokens(prefix + review.text) for review in reviews))
        self._labels = torch.tensor([review.label for review in reviews])
        self._binary = torch.tensor([review.binary for review in reviews])
        self._class_weights = class_weights(self._labels)
        self._pad_id = pad_id
        self._pooling: Pooling = pooling

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each review."""
        return self._store.lengths

    def batch(self, draws: Sequence[Draw]) -> dict[str, Any]:
        """Return the tensors of `loss` for the drawn reviews."""
        rows = [draw.row for draw in draws]
        labels = self._labels[rows]
        return {
            "texts": pad_ids([self._store[row].ids.astype(np.int64) for row in rows], self._pad_id),
            "labels": labels,
            "binary": self._binary[rows],
            "weights": self._class_weights[labels],
        }

    def loss(self, language_model: LanguageModel, batch: dict[str, Any]) -> Tensor:
        """Return the weighted mean loss of a batch."""
        output = language_model.states(batch["texts"], all_layers=True)
        mask = batch["texts"]["attention_mask"].bool()
        vectors = pool(output.last_hidden_state, mask, self._pooling)
        states = TokenStates(tuple(output.hidden_states), mask, vectors)
        scores = self.module(self.module.features(states))  # (B, 3)
        losses = partial_label_losses(scores, batch["labels"], batch["binary"])
        weights: Tensor = batch["weights"]
        return (losses * weights).sum() / weights.sum()
