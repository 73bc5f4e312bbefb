"""The three ways a language model reads its texts: masked, in sentence pairs, in blocks.

Each class holds pieces of a `TokenStore` and makes batches of them. A batch depends on nothing but
the draws (row, pass, seed), never on what was drawn before. Letters: B examples, L padded tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.language.masking import IGNORED, MaskRule, mask_words
from training.language.token_store import Piece, TokenStore
from training.loop.schedule import Draw

Batch = dict[str, Tensor]
Ids = NDArray[np.int64]
_MULTIPLE_TOKENS = 8  # padded lengths: a few shapes run faster than many
SAME, OTHER = 0, 1  # NSP labels, as in BERT's checkpoints: 0 is "B follows A"


class Examples(Protocol):
    """Something that learns from rows."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, so that rows of like length can share a batch."""
        ...

    def batch(self, draws: Sequence[Draw]) -> Batch:
        """Return the padded tensors of the drawn rows."""
        ...


class MaskedTexts:
    """Texts of which some words are hidden: the examples of MLM."""

    def __init__(self, store: TokenStore, tokenizer: Any, rule: MaskRule) -> None:
        self._store = store
        self._tokenizer = tokenizer
        self._rule = rule

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, without special ones."""
        return self._store.lengths

    def batch(self, draws: Sequence[Draw]) -> Batch:
        """Return `input_ids`, `attention_mask` and `labels`, (B, L) each."""
        rows = []
        for draw in draws:
            piece = with_specials(self._store[draw.row], tokenizer=self._tokenizer)
            rows.append(mask_words(*piece, self._rule, draw.generator()))
        return pad_masked(rows, self._tokenizer.pad_token_id)


class SentencePairs:
    """A sentence and the next one, or one of another text: the examples of MLM + NSP.

    The pieces of the store are sentences, its documents the texts they stand in. Half of the pairs
    follow each other (Devlin et al. 2019, section 3.1).
    """

    def __init__(self, store: TokenStore, tokenizer: Any, rule: MaskRule, max_tokens: int) -> None:
        self._store = store
        self._tokenizer = tokenizer
        self._rule = rule
        self._most = (max_tokens - 3) // 2
        documents = store.documents
        self._firsts = np.flatnonzero(documents[1:] == documents[:-1])  # rows with a next sentence

    def __len__(self) -> int:
        """Return the number of sentences that another one follows."""
        return len(self._firsts)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each true pair."""
        lengths = np.minimum(self._store.lengths, self._most)
        return np.asarray(lengths[self._firsts] + lengths[self._firsts + 1])

    def batch(self, draws: Sequence[Draw]) -> Batch:
        """Return `MaskedTexts.batch`'s tensors with `token_type_ids` (B, L) and `follows` (B)."""
        rows, types, follows = [], [], []
        for draw in draws:
            generator = draw.generator()
            first = int(self._firsts[draw.row])
            follows.append(SAME if generator.random() < 0.5 else OTHER)
            second = first + 1 if follows[-1] == SAME else self._other(first, generator)
            pieces = [self._cut(self._store[first]), self._cut(self._store[second])]
            ids, words = with_specials(*pieces, tokenizer=self._tokenizer)
            rows.append(mask_words(ids, words, self._rule, generator))
            first_tokens = len(pieces[0].ids) + 2
            types.append((np.arange(len(ids)) >= first_tokens).astype(np.int64))
        return {
            **pad_masked(rows, self._tokenizer.pad_token_id),
            "token_type_ids": pad(types, 0),
            "follows": torch.tensor(follows),
        }

    def _cut(self, piece: Piece) -> Piece:
        return Piece(piece.ids[: self._most], piece.words[: self._most])

    def _other(self, row: int, generator: np.random.Generator) -> int:
        """Return a sentence of another document."""
        documents = self._store.documents
        for _ in range(100):
            other = int(generator.integers(len(self._store)))
            if documents[other] != documents[row]:
                return other
        return int(np.flatnonzero(documents != documents[row])[0])


class TextBlocks:
    """All texts in a row, cut into blocks of equal length: the examples of CLM, without padding."""

    def __init__(self, store: TokenStore, block_tokens: int) -> None:
        self._ids = store.ids
        self._block_tokens = block_tokens

    def __len__(self) -> int:
        """Return the number of blocks; a last short one is left out unless it is the only one."""
        return max(1, len(self._ids) // self._block_tokens) if len(self._ids) > 1 else 0

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each block."""
        return np.full(len(self), min(self._block_tokens, len(self._ids)))

    def batch(self, draws: Sequence[Draw]) -> Batch:
        """Return `input_ids`, `attention_mask` and `labels`, (B, L) each; labels are the ids."""
        size = self._block_tokens
        rows = [self._ids[d.row * size : (d.row + 1) * size].astype(np.int64) for d in draws]
        ids = torch.from_numpy(np.stack(rows))
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}


class CausalTexts:
    """Single texts, each with an end token, for CLM beside a task: padded, not packed."""

    def __init__(self, store: TokenStore, pad_id: int) -> None:
        self._store = store
        self._pad_id = pad_id

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row."""
        return self._store.lengths

    def batch(self, draws: Sequence[Draw]) -> Batch:
        """Return `input_ids`, `attention_mask` and `labels`, (B, L) each."""
        rows = [self._store[draw.row].ids.astype(np.int64) for draw in draws]
        return {**pad_ids(rows, self._pad_id), "labels": pad(rows, IGNORED)}


def with_specials(*pieces: Piece, tokenizer: Any) -> tuple[Ids, NDArray[np.int64]]:
    """Return the ids of `[CLS] piece [SEP] (piece [SEP])` and their words, 0 for special tokens."""
    ids, words = [np.array([tokenizer.cls_token_id])], [np.zeros(1, dtype=np.int64)]
    top = 0
    for piece in pieces:
        numbers = piece.words.astype(np.int64)
        numbers = np.where(numbers > 0, numbers + top, 0)
        top = max(top, int(numbers.max(initial=0)))
        ids += [piece.ids.astype(np.int64), np.array([tokenizer.sep_token_id])]
        words += [numbers, np.zeros(1, dtype=np.int64)]
    return np.concatenate(ids), np.concatenate(words)


def pad(rows: Sequence[Ids], value: int) -> Tensor:
    """Return rows (n) as one tensor (B, L), L a multiple of 8, filled up with `value`."""
    longest = max(len(row) for row in rows)
    table = np.full((len(rows), -(-longest // _MULTIPLE_TOKENS) * _MULTIPLE_TOKENS), value)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return torch.from_numpy(table.astype(np.int64))


def pad_ids(rows: Sequence[Ids], pad_id: int) -> Batch:
    """Return `input_ids` and `attention_mask`, (B, L) each."""
    return {
        "input_ids": pad(rows, pad_id),
        "attention_mask": pad([np.ones(len(row), dtype=np.int64) for row in rows], 0),
    }


def pad_masked(rows: Sequence[tuple[Ids, Ids]], pad_id: int) -> Batch:
    """Return `input_ids`, `attention_mask` and `labels`, (B, L) each, of (ids, labels) rows."""
    batch = pad_ids([ids for ids, _ in rows], pad_id)
    return {**batch, "labels": pad([labels for _, labels in rows], IGNORED)}
