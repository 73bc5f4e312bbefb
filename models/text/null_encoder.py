"""A trunk without a network, for benchmarks of the stream and for tests: `SHOPSTREAM_MODEL=null`.

A token is a word (Latin letters, digits) or one Chinese character; a text's vector is the sum of
its tokens' hash vectors (the hashing trick, Weinberger et al. 2009), so texts that share tokens lie
near each other. It has no heads that learnt anything: a head's probabilities are uniform, and a
result made with it must never be shown as an answer of a model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from zlib import crc32

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from models.text_encoder import Encodings, Role, Tokens, bucket_of

_TOKEN = re.compile(r"[㐀-鿿]|[^\W㐀-鿿]+")
_TABLE_ROWS = 1 << 14  # collisions do no harm here, and 16,384 rows of 384 floats stay in 25 MB
_SEED = 20_250_101


class NullEncoder:
    """The protocol of a text trunk over hash vectors."""

    def __init__(self, width: int = 384, max_tokens: int = 256, classes: int = 3) -> None:
        self.width = width
        self.max_tokens = max_tokens
        self.release = f"null-{width}"
        self._classes = classes
        generator = np.random.default_rng(_SEED)
        self._table = torch.from_numpy(
            generator.standard_normal((_TABLE_ROWS, width), dtype=np.float32)
        )

    def tokenize(self, texts: Sequence[str], role: Role) -> list[Tokens]:
        """Return the hashed words of each text; an empty text has one token."""
        return [self._tokens(text) for text in texts]

    def encode(
        self, tokens: Sequence[Tokens], head_rows: Mapping[str, Sequence[int]] = {}
    ) -> Encodings:
        """Return the unit sum of each text's token vectors, and uniform head probabilities."""
        return Encodings(
            self._vectors(tokens),
            {
                name: np.full((len(rows), self._classes), 1 / self._classes, dtype=np.float32)
                for name, rows in head_rows.items()
            },
        )

    def warm_up(self) -> None:
        """Do nothing: there is no shape to prepare."""

    def _tokens(self, text: str) -> Tokens:
        words = _TOKEN.findall(text.lower())[: self.max_tokens] or [""]
        ids = np.array([crc32(word.encode()) % _TABLE_ROWS for word in words], dtype=np.int32)
        return Tokens(ids, bucket_of(len(ids), self.max_tokens))

    def _vectors(self, tokens: Sequence[Tokens]) -> NDArray[np.float32]:
        if not tokens:
            return np.zeros((0, self.width), dtype=np.float32)
        ends = np.cumsum([len(text.ids) for text in tokens])
        starts = torch.from_numpy(np.concatenate(([0], ends[:-1])))
        ids = torch.from_numpy(np.concatenate([text.ids for text in tokens]).astype(np.int64))
        sums = F.embedding_bag(ids, self._table, starts, mode="sum")  # (N, D)
        return np.asarray(F.normalize(sums, dim=-1).numpy())
