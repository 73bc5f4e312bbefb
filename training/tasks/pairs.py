"""Pairs of texts as files of tokens: queries, the passages they should find, hard negatives."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.language.token_store import TokenStore, TokenWriter


@dataclass(frozen=True, slots=True)
class Pair:
    """A query, the key of the passage it should find, hard negatives' keys, and its weight."""

    query: str
    positive: str
    negatives: tuple[str, ...] = ()
    weight: float = 1.0


class TextTokens:
    """Texts → token ids as the trunk will read them: prefix, special tokens, cut to the limit."""

    def __init__(self, tokenizer: Any, max_tokens: int, end_id: int | None = None) -> None:
        """Take a tokenizer; `end_id` is set at the end of each text of a causal model."""
        self._backend = tokenizer.backend_tokenizer
        self._max_tokens = max_tokens
        self._end_id = end_id

    def __call__(self, text: str) -> list[int]:
        """Return the ids of a text."""
        self._backend.no_padding()
        if self._end_id is None:
            self._backend.enable_truncation(max_length=self._max_tokens)
            ids: list[int] = self._backend.encode(text).ids
            return ids
        self._backend.no_truncation()
        return [*self._backend.encode(text).ids[: self._max_tokens - 1], self._end_id]


class PairWriter:
    """Writes pairs and the passages they need into a folder; open it with `with`."""

    def __init__(
        self, folder: Path, tokens: TextTokens, query_prefix: str = "", passage_prefix: str = ""
    ) -> None:
        self._folder = folder
        self._tokens = tokens
        self._prefixes = query_prefix, passage_prefix
        self._queries = TokenWriter(folder / "queries")
        self._passages = TokenWriter(folder / "passages")
        self._rows: dict[str, int] = {}
        self._groups: dict[str, int] = {}
        self._pairs = array("q")  # positive row, group of the query, end of its negatives
        self._negatives = array("q")
        self._weights = array("d")

    def __enter__(self) -> PairWriter:
        self._queries.__enter__()
        self._passages.__enter__()
        return self

    def passage(self, key: str, text: str) -> None:
        """Add a passage; a key that is known stays as it is."""
        if key not in self._rows:
            self._rows[key] = len(self._rows)
            self._passages.add(self._tokens(self._prefixes[1] + text))

    def knows(self, key: str) -> bool:
        """Say whether a passage of this key was added."""
        return key in self._rows

    def add(self, pair: Pair) -> None:
        """Add a pair of known passages; negatives that are not known are left out."""
        self._queries.add(self._tokens(self._prefixes[0] + pair.query))
        self._negatives.extend(self._rows[key] for key in pair.negatives if key in self._rows)
        group = self._groups.setdefault(pair.query, len(self._groups))
        self._pairs.extend((self._rows[pair.positive], group, len(self._negatives)))
        self._weights.append(pair.weight)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._queries.__exit__(kind, error, trace)
        self._passages.__exit__(kind, error, trace)

    def pair_set(self) -> PairSet:
        """Return what was written; call it after the `with` block."""
        table = np.array(self._pairs, dtype=np.int64).reshape(-1, 3)
        return PairSet(
            queries=TokenStore(self._folder / "queries"),
            passages=TokenStore(self._folder / "passages"),
            keys=tuple(self._rows),
            positives=table[:, 0],
            groups=table[:, 1],
            negative_ends=table[:, 2],
            negatives=np.array(self._negatives, dtype=np.int64),
            weights=np.array(self._weights, dtype=np.float64),
        )


@dataclass(frozen=True, slots=True)
class PairSet:
    """Pairs as numbers: N pairs, P passages, queries of one text share a group."""

    queries: TokenStore  # N
    passages: TokenStore  # P
    keys: tuple[str, ...]  # P
    positives: NDArray[np.int64]  # (N) rows of passages
    groups: NDArray[np.int64]  # (N)
    negative_ends: NDArray[np.int64]  # (N) where the pair's part of `negatives` ends
    negatives: NDArray[np.int64]
    weights: NDArray[np.float64]  # (N)

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.positives)

    def negatives_of(self, row: int) -> NDArray[np.int64]:
        """Return the rows of a pair's hard negatives."""
        start = int(self.negative_ends[row - 1]) if row else 0
        return self.negatives[start : int(self.negative_ends[row])]

    def qrels(self, rows: Sequence[int]) -> dict[int, dict[str, float]]:
        """Return for each query group among the pairs the keys of the passages that answer it."""
        found: dict[int, dict[str, float]] = {}
        for row in rows:
            key = self.keys[int(self.positives[row])]
            found.setdefault(int(self.groups[row]), {})[key] = 1.0
        return found
