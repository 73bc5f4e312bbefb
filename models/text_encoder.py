"""The text trunk: one BERT-family encoder, many heads, one forward pass a batch.

A text is padded to its own length bucket (a multiple of 8 tokens) and never to its neighbours, so
the same text gives the same bits whatever stands beside it. Letters: N texts, R rows of one
micro-batch, L padded tokens, D width, C classes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from models.release import ModelUnavailable, Pooling, TrunkRelease, open_trunk

__all__ = [
    "BUCKET_TOKENS", "Encodings", "Head", "ModelUnavailable", "Role", "TextEncoder", "TextTrunk",
    "TokenStates", "Tokens", "bucket_of",
]  # fmt: skip

Role = Literal["query", "passage"]
# Of searches and short reviews multiples of 16 are nearly half padding: 8 cost 28 % less in full
# batches. GPU kernels want no less than multiples of 8.
BUCKET_TOKENS = 8

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenized text: ids (1-D, special tokens included) and the padded length it is run at."""

    ids: NDArray[np.int32]
    bucket: int


@dataclass(frozen=True, slots=True)
class Encodings:
    """What one pass gives: unit vectors (N, D), and for each head probabilities (rows, C)."""

    vectors: NDArray[np.float32]
    heads: dict[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TokenStates:
    """What a head may read of its rows."""

    layers: tuple[Tensor, ...]  # (R, L, D) each: embeddings, then every layer
    mask: Tensor  # (R, L) bool, True where a token is
    vectors: Tensor  # (R, D) unit length


class Head(Protocol):
    """A small network on the trunk."""

    release: str
    classes: int

    def probabilities(self, states: TokenStates) -> Tensor:
        """Return (R, C) float32; a row's bits must not depend on the rows beside it."""
        ...

    def to(self, device: torch.device) -> Any:
        """Move the weights to the trunk's device."""
        ...


class TextTrunk(Protocol):
    """Texts in, unit vectors and the heads' probabilities out."""

    width: int
    release: str
    max_tokens: int  # texts are cut here

    def tokenize(self, texts: Sequence[str], role: Role) -> list[Tokens]:
        """Return the tokens of each text, cut to the trunk's limit; safe in any thread."""
        ...

    def encode(
        self, tokens: Sequence[Tokens], head_rows: Mapping[str, Sequence[int]] = {}
    ) -> Encodings:
        """Encode all texts in one pass; `head_rows` names the rows that each head reads."""
        ...

    def warm_up(self) -> None:
        """Run every shape once, so that the first event does not pay for it."""
        ...


def bucket_of(token_count: int, max_tokens: int) -> int:
    """Return the padded length of a text: the next multiple of 8, at most `max_tokens`."""
    return min(-(-token_count // BUCKET_TOKENS) * BUCKET_TOKENS, max_tokens)


class TextEncoder:
    """A trunk that `transformers` loaded; see `load`. One thread may call `encode` at a time."""

    def __init__(
        self,
        network: torch.nn.Module,
        tokenizer: Any,
        release: TrunkRelease,
        *,
        max_tokens: int,
        micro_batch_max_tokens: int,
    ) -> None:
        self.network = network
        self.trunk_release = release
        self.release = release.content_id
        self.width = int(cast(Any, network).config.hidden_size)
        self.max_tokens = max_tokens
        self.micro_batch_max_tokens = micro_batch_max_tokens
        self.heads: dict[str, Head] = {}
        parameter = next(network.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self._pad_id = int(tokenizer.pad_token_id or 0)
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_padding()
        self._backend.enable_truncation(max_length=max_tokens)
        self._prefixes: dict[Role, str] = {
            "query": release.query_prefix,
            "passage": release.passage_prefix,
        }

    @classmethod
    def load(
        cls,
        model: str | Path = "",
        *,
        device: str = "auto",
        dtype: str = "auto",
        threads: int = 0,
        max_tokens: int = 256,
        micro_batch_max_tokens: int = 4_096,
    ) -> TextEncoder:
        """Load a trunk: empty for the packaged MiniLM, a folder, or a hub id.

        `device` auto, cpu, cuda, cuda:1 …; `dtype` auto (bfloat16 on a GPU, float32 on a CPU),
        float32 or bfloat16; `threads` of the CPU, 0 leaves torch's. Raises ModelUnavailable.
        """
        from models.text.checkpoint import choose_device, load_network, load_tokenizer, token_limit

        release = open_trunk(model)
        place, number_type = choose_device(device, dtype)
        if threads > 0:
            torch.set_num_threads(threads)
        network = load_network(release, place, number_type)
        tokenizer = load_tokenizer(release)
        limit = min(max_tokens, token_limit(network, tokenizer))
        logger.info(
            "text trunk %s: %s, %s, %d CPU threads, texts cut to %d tokens, %s pooling",
            release.content_id, place, str(number_type).removeprefix("torch."),
            torch.get_num_threads(), limit, release.pooling,
        )  # fmt: skip
        return cls(
            network,
            tokenizer,
            release,
            max_tokens=limit,
            micro_batch_max_tokens=micro_batch_max_tokens,
        )

    def twin(self, release: TrunkRelease) -> TextEncoder:
        """Return a trunk with the same weights and tokenizer for heads of its own."""
        twin = copy(self)
        twin.trunk_release, twin.release, twin.heads = release, release.content_id, {}
        return twin

    def add_head(self, name: str, head: Head) -> None:
        """Put a head on the trunk; `encode` then takes its rows under `name`."""
        head.to(self.device)
        self.heads[name] = head

    def tokenize(self, texts: Sequence[str], role: Role) -> list[Tokens]:
        """Return the tokens of each text, prefix and special tokens included."""
        if not texts:
            return []
        prefix = self._prefixes[role]
        encodings = self._backend.encode_batch_fast([prefix + text for text in texts])
        rows = (np.array(encoding.ids, dtype=np.int32) for encoding in encodings)
        return [Tokens(ids, bucket_of(len(ids), self.max_tokens)) for ids in rows]

    @torch.inference_mode()
    def encode(
        self, tokens: Sequence[Tokens], head_rows: Mapping[str, Sequence[int]] = {}
    ) -> Encodings:
        """Encode all texts in one pass; raises KeyError for a head that was not added."""
        heads = {name: (self.heads[name], rows) for name, rows in head_rows.items()}
        vectors = torch.empty((len(tokens), self.width), device=self.device)
        read = {name: set(rows) for name, (_, rows) in heads.items()}
        found: dict[str, Tensor] = {
            name: torch.empty((len(tokens) if rows else 0, head.classes), device=self.device)
            for name, (head, rows) in heads.items()
        }
        for rows in self._micro_batches(tokens):
            wanted = {name: [i for i, r in enumerate(rows) if r in read[name]] for name in heads}
            states = self._run([tokens[row] for row in rows], any(wanted.values()))
            vectors[rows] = states.vectors[: len(rows)]
            for name, picked in wanted.items():
                if picked:
                    probabilities = heads[name][0].probabilities(_pick(states, picked))
                    found[name][[rows[i] for i in picked]] = probabilities
        return Encodings(
            vectors.cpu().numpy(),
            {name: found[name][list(rows)].cpu().numpy() for name, (_, rows) in heads.items()},
        )

    def warm_up(self) -> None:
        """Run the shortest and the longest shape (on a GPU every one), with every head."""
        buckets = range(BUCKET_TOKENS, self.max_tokens + 1, BUCKET_TOKENS)
        chosen = buckets if self.device.type == "cuda" else {buckets[0], buckets[-1]}
        ids = np.full(self.max_tokens, self._pad_id, dtype=np.int32)
        texts = [Tokens(ids[:bucket], bucket) for bucket in chosen]
        self.encode(texts, {name: range(len(texts)) for name in self.heads})

    def _micro_batches(self, tokens: Sequence[Tokens]) -> Iterator[list[int]]:
        """Yield rows of one bucket at a time, within the micro-batch's token budget."""
        by_bucket: dict[int, list[int]] = {}
        for row, text in enumerate(tokens):
            by_bucket.setdefault(text.bucket, []).append(row)
        for bucket, rows in sorted(by_bucket.items()):
            size = self._rows_per_micro_batch(bucket)
            for start in range(0, len(rows), size):
                yield rows[start : start + size]

    def _rows_per_micro_batch(self, bucket: int) -> int:
        return max(1, self.micro_batch_max_tokens // bucket)

    def _padded_rows(self, count: int, bucket: int) -> int:
        """Return how many rows are run for `count` texts, so that a row's bits stay its own.

        CPU float32 keeps them with any number of rows, CPU bfloat16 from two up. GPU libraries
        choose their kernels by the number of rows, so there the shape of a bucket never changes.
        """
        if self.device.type != "cpu":
            return self._rows_per_micro_batch(bucket)
        return count if self.dtype == torch.float32 else max(2, count)

    def _run(self, texts: Sequence[Tokens], all_layers: bool) -> TokenStates:
        bucket = texts[0].bucket
        rows = self._padded_rows(len(texts), bucket)
        ids = np.full((rows, bucket), self._pad_id, dtype=np.int32)  # (R, L)
        lengths = np.ones(rows, dtype=np.int64)  # a filler row attends to one padding token
        for row, text in enumerate(texts):
            lengths[row] = len(text.ids)
            ids[row, : lengths[row]] = text.ids
        mask = self._to_device(torch.from_numpy(np.arange(bucket) < lengths[:, None]))
        output = self.network(
            input_ids=self._to_device(torch.from_numpy(ids)),
            attention_mask=mask,
            output_hidden_states=all_layers,
        )
        last: Tensor = output.last_hidden_state  # (R, L, D)
        layers = tuple(output.hidden_states) if all_layers else (last,)
        return TokenStates(layers, mask, pool(last, mask, self.trunk_release.pooling))

    def _to_device(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)


def pool(states: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Return unit vectors (R, D) in float32 of token states (R, L, D) under a mask (R, L)."""
    if pooling == "cls":
        return F.normalize(states[:, 0].float(), dim=-1)
    weights = mask.unsqueeze(-1).float()  # (R, L, 1)
    return F.normalize((states.float() * weights).sum(1) / weights.sum(1), dim=-1)


def _pick(states: TokenStates, rows: list[int]) -> TokenStates:
    layers = tuple(layer[rows] for layer in states.layers)
    return TokenStates(layers, states.mask[rows], states.vectors[rows])
