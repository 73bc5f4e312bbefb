"""The recommender's network: a causal transformer over a shopper's events.

An event is a search (the trunk's query vector), a purchase, a return, a review with stars or a
question; the network reads them oldest first and its state after the last one is the shopper.
Letters: B shoppers, N events of all of them, L tokens of one history (start token and padding
counted), D width, H heads, W width of text vectors, V items, k items asked for.

    shopper vector (D,) . item vector (D,) = score
    item vector = learnt embedding (none for an unseen item) + projection of its text vector
    added for some items: how often they were bought right after the last purchase, times a trust,
    and what goes with all that was bought, times another

Sources: the causal transformer over items is SASRec (Kang & McAuley 2018). The block is LiGR's as
eSASRec uses it (Borisyuk et al. 2025, Tikhonovich et al. 2025): pre-norm, softmax attention,
SwiGLU (Shazeer 2020), each branch times a gate; what enters a branch is mixed with the events just
before by a short convolution (Primer, So et al. 2021; Canon layers, Allen-Zhu 2025). The relative
position bias per block and head and the log buckets of time are HSTU's (Zhai et al. 2024), cosine
scores with a temperature too. What is added: models/learnt/successors.py and neighbours.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.learnt.history_batch import (
    BUCKET_TOKENS,
    EVENT_KINDS,
    STARS,
    UNKNOWN_ITEM,
    HistoryBatch,
    PaddedEvents,
    last_purchases,
    padded_buckets,
)
from models.learnt.neighbours import Neighbours, kept_purchases
from models.learnt.pooled_dropout import PooledDropout
from models.learnt.successors import Bonus, Successors, no_bonus

__all__ = [
    "UNKNOWN_ITEM", "Block", "HistoryBatch", "PaddedEvents", "RecommenderConfig",
    "RecommenderNetwork",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class RecommenderConfig:
    """The network's shape; `text_width` 0: no texts, `gap_buckets` 0: no times."""

    items: int  # V
    text_width: int = 0  # W
    width: int = 128  # D
    blocks: int = 4
    heads: int = 2  # H
    hidden: int = 256  # of the SwiGLU
    max_events: int = 200  # the newest that are read
    gap_buckets: int = 0  # bucket b: gaps of 2^(b-1) to 2^b seconds
    convolution: int = 3  # events that a place mixes before attention and SwiGLU; 1: none
    successors: int = 64  # K, counted of each item; 0: none
    neighbours: int = 256  # K, weights of each item in whole histories; 0: none
    dropout: float = 0.3
    id_dropout: float = 0.1  # share of items that a training step knows by their text alone
    temperature: float = 0.0  # above 0: cosine scores divided by it; 0: dot product

    def __post_init__(self) -> None:
        """Refuse shapes that cannot be; raises ValueError."""
        if self.items < 1 or self.blocks < 1 or self.max_events < 1 or self.hidden < 1:
            raise ValueError("items, blocks, hidden and max_events must be at least 1")
        if self.width < self.heads or self.heads < 1 or self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be cut into {self.heads} equal heads")
        may_be_none = ("text_width", "gap_buckets", "successors", "neighbours", "temperature")
        if min(getattr(self, name) for name in may_be_none) < 0:
            raise ValueError(f"{', '.join(may_be_none)} must not be negative")
        if not 1 <= self.convolution <= BUCKET_TOKENS:
            raise ValueError(f"convolution {self.convolution} must lie in 1 to {BUCKET_TOKENS}")
        if not (0 <= self.dropout < 1 and 0 <= self.id_dropout < 1):
            raise ValueError("dropout and id_dropout must lie in [0, 1)")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values; `RecommenderConfig(**fields)` reads them back."""
        return asdict(self)


class Convolution(nn.Module):
    """Adds to each event its own share of itself and of the few before, a weight each (D, reach).

    Depthwise and causal; it begins as the identity.
    """

    def __init__(self, width: int, reach: int) -> None:
        """Mix `reach` events, the own counted."""
        super().__init__()
        self.reach = reach
        self.weight = nn.Parameter(torch.zeros(width, reach))

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed stream: (B, L, D) → (B, L, D)."""
        padded = F.pad(x.transpose(1, 2), (self.reach - 1, 0))
        weight = self.weight.to(x.dtype).unsqueeze(1)
        return x + F.conv1d(padded, weight, groups=x.shape[-1]).transpose(1, 2)


class Block(nn.Module):
    """Attention and SwiGLU, each on the normed and mixed stream and times its own gate."""

    def __init__(self, config: RecommenderConfig) -> None:
        """Build one block of the configured width."""
        super().__init__()
        width, self.heads, self.hidden = config.width, config.heads, config.hidden
        self.attention_norm = nn.LayerNorm(width)
        self.attention_in = nn.Linear(width, 4 * width)  # query, key, value, gate
        self.attention_out = nn.Linear(width, width)
        self.hidden_norm = nn.LayerNorm(width)
        self.hidden_in = nn.Linear(width, 2 * self.hidden + width)  # SwiGLU's two, gate
        self.hidden_out = nn.Linear(self.hidden, width)
        self.distance_bias = nn.Parameter(torch.zeros(self.heads, padded_events(config)))
        reach = config.convolution
        self.attention_mix = Convolution(width, reach) if reach > 1 else nn.Identity()
        self.hidden_mix = Convolution(width, reach) if reach > 1 else nn.Identity()
        self.dropout = PooledDropout(config.dropout)

    def forward(self, x: Tensor, distances: Tensor, mask: Tensor) -> Tensor:
        """Return the stream after this block: (B, L, D) → (B, L, D)."""
        q, k, v, gate = self.project(x)
        bias = self.bias(distances, mask).to(q.dtype)  # (H, L, L)
        if x.device.type == "cpu":  # torch's own CPU kernel gives no gradient to a bias
            mixed = (self.probabilities(q, k, bias) @ v).transpose(1, 2).reshape(x.shape)
        else:
            mixed = F.scaled_dot_product_attention(
                q, k, v, attn_mask=bias.expand(len(x), -1, -1, -1)
            )
            mixed = mixed.transpose(1, 2).reshape(x.shape)
        return self.add(x, mixed, gate)

    def add(self, x: Tensor, mixed: Tensor, gate: Tensor) -> Tensor:
        """Return the stream (B, L, D) with what attention mixed and what the SwiGLU makes of it."""
        x = x + self.dropout(self.attention_out(mixed) * torch.sigmoid(gate))
        parts = self.hidden_in(self.hidden_mix(self.hidden_norm(x)))
        left, right, gate = parts.split((self.hidden, self.hidden, x.shape[-1]), dim=-1)
        y = self.hidden_out(self.dropout(F.silu(left) * right))
        out: Tensor = x + self.dropout(y * torch.sigmoid(gate))
        return out

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return query, key, value (B, H, L, D/H) and the gate (B, L, D)."""
        mixed = self.attention_mix(self.attention_norm(x))
        q, k, v, gate = self.attention_in(mixed).chunk(4, dim=-1)
        shape = (*x.shape[:2], self.heads, -1)
        q, k, v = (part.view(shape).transpose(1, 2) for part in (q, k, v))
        return q, k, v, gate

    def bias(self, distances: Tensor, mask: Tensor) -> Tensor:
        """Return (H, L, L): what a distance adds, and -inf where the future lies."""
        picked = self.distance_bias.index_select(1, distances.flatten())
        return picked.view(self.heads, *distances.shape) + mask

    def probabilities(self, q: Tensor, k: Tensor, bias: Tensor) -> Tensor:
        """Return (B, H, L, L): how much each event reads of each earlier one."""
        scale = 1.0 / math.sqrt(q.shape[-1])
        return torch.softmax(torch.matmul(q * scale, k.transpose(-1, -2)) + bias, dim=-1)


class RecommenderNetwork(nn.Module):
    """Histories in, shopper vectors out; items in, item vectors out."""

    def __init__(self, config: RecommenderConfig) -> None:
        """Build the network with fresh weights from torch's global generator."""
        super().__init__()
        self.config = config
        self.item_embedding = nn.Embedding(config.items, config.width)
        if config.text_width:
            self.text_projection = nn.Linear(config.text_width, config.width, bias=False)
        self.kind_embedding = nn.Embedding(len(EVENT_KINDS), config.width)
        self.position_embedding = nn.Embedding(padded_events(config), config.width)
        self.star_embedding = nn.Embedding(STARS, config.width)
        if config.gap_buckets:
            self.gap_embedding = nn.Embedding(config.gap_buckets, config.width)
        self.input_dropout = PooledDropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        if config.successors:
            self.successors = Successors(
                config.items, config.successors, config.width, config.dropout
            )
        if config.neighbours:
            self.neighbours = Neighbours(config.items, config.neighbours)
        for module in self.modules():
            if isinstance(module, nn.Embedding | nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        if config.successors:
            self.successors.reset()

    def encode_items(self, item_rows: Tensor | None, text_vectors: Tensor | None) -> Tensor:
        """Return the vectors (n, D) of items; an unseen one lives from its text alone.

        `item_rows` (n,) may hold UNKNOWN_ITEM, None means all V in order; `text_vectors` (n, W).
        """
        return self.score_vectors(self.item_inputs(item_rows, text_vectors))

    def item_inputs(self, item_rows: Tensor | None, text_vectors: Tensor | None) -> Tensor:
        """Return item vectors (n, D) as the blocks read them, before any cosine."""
        table = self.item_embedding.weight
        learnt = table if item_rows is None else table[item_rows.clamp(min=0)]
        if item_rows is not None:
            learnt = learnt * (item_rows >= 0).unsqueeze(-1)
        if not self.config.text_width:
            return learnt
        if text_vectors is None:
            raise ValueError("this recommender was trained with texts: give the items' vectors")
        if self.training and self.config.id_dropout:
            learnt = learnt * (torch.rand_like(learnt[:, :1]) >= self.config.id_dropout)
        texts = text_vectors.to(table.dtype)
        # whole buckets of rows: a product of 1 or 7 rows takes another kernel, with other bits
        projected = self.text_projection(F.pad(texts, (0, 0, 0, -len(texts) % BUCKET_TOKENS)))
        vectors: Tensor = learnt + projected[: len(texts)]
        return vectors

    def score_vectors(self, inputs: Tensor) -> Tensor:
        """Return item vectors as shoppers are multiplied with them: of unit length for a cosine."""
        return F.normalize(inputs, dim=-1) if self.config.temperature else inputs

    def encode_histories(self, batch: HistoryBatch) -> Tensor:
        """Return the shopper vectors (B, D) float32: the states after the last event.

        A history's bits do not depend on the others: it is padded to its own length bucket.
        """
        states = torch.empty((len(batch.lengths), self.config.width), device=self.device)
        inputs = self.item_inputs(batch.item_rows, batch.vectors)
        for rows, events in padded_buckets(batch, self.config.max_events, self.config.gap_buckets):
            stream, ends = self.run(events, inputs), ends_of(events)
            states[rows] = stream[torch.arange(len(rows)), ends[: len(rows)]].float()
        return self.shopper_vectors(states)

    def bonus(self, last: Tensor, vectors: Tensor, own: Tensor | None = None) -> Bonus:
        """Return what is added to scores for the last purchases: see `Successors.forward`.

        `last` (n,) are item rows, `vectors` (n, D) shopper vectors.
        """
        if not self.config.successors:
            return no_bonus(len(last), vectors.device)
        found: Bonus = self.successors(last, vectors, own)
        return found

    def bonuses(self, batch: HistoryBatch, vectors: Tensor) -> Iterator[Bonus]:
        """Yield all that is added to the scores of histories when they are ranked.

        `vectors` (B, D) are the shopper vectors of the batch.
        """
        yield self.bonus(last_purchases(batch), vectors)
        if self.config.neighbours and float(self.neighbours.trust):
            bought = kept_purchases(batch, self.config.max_events)
            yield self.neighbours.bonus(self.neighbours.sums(bought))

    def run(self, events: PaddedEvents, inputs: Tensor) -> Tensor:
        """Return the normed states (B, L, D) of one bucket; `inputs` (N, D) of its event rows."""
        x = self.embed(events, inputs)
        distances, mask = distances_of(x)
        for block in self.blocks:
            x = block(x, distances, mask)
        normed: Tensor = self.norm(x)
        return normed

    def embed(self, events: PaddedEvents, inputs: Tensor) -> Tensor:
        """Return the stream that enters the first block: (B, L, D), under autocast in its type."""
        x = self._read(events, inputs) + self._describe(events)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        dropped: Tensor = self.input_dropout(x)
        return dropped

    def shopper_vectors(self, states: Tensor) -> Tensor:
        """Return the vectors whose dot product with item vectors is the score: (n, D)."""
        if not self.config.temperature:
            return states
        return F.normalize(states, dim=-1) / self.config.temperature

    def _read(self, events: PaddedEvents, inputs: Tensor) -> Tensor:
        """Return what the events are about, (B, L, D): zeros for the start token and padding."""
        if not len(inputs):
            return inputs.new_zeros((*events.kinds.shape, self.config.width))
        picked = inputs.index_select(0, events.event_rows.clamp(min=0).flatten())
        picked = picked.view(*events.kinds.shape, -1) * math.sqrt(self.config.width)
        return picked * (events.event_rows >= 0).unsqueeze(-1)

    def _describe(self, events: PaddedEvents) -> Tensor:
        """Return type, stars, place and gap of the events: (B, L, D)."""
        places = self.position_embedding.weight[: events.kinds.shape[1]]
        described: Tensor = self.kind_embedding(events.kinds) + places
        described = described + self.star_embedding(events.stars)
        if self.config.gap_buckets:
            described = described + self.gap_embedding(events.gaps)
        return described

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return self.item_embedding.weight.device


def padded_events(config: RecommenderConfig) -> int:
    """Return the longest padded history: `max_events` and the start token, in whole buckets."""
    return -(-(config.max_events + 1) // BUCKET_TOKENS) * BUCKET_TOKENS


def ends_of(events: PaddedEvents) -> Tensor:
    """Return the place of each history's last token: (B,)."""
    return (events.event_rows >= 0).sum(1)


def distances_of(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each pair of places how far the read one lies behind, and the causal mask."""
    places = torch.arange(x.shape[1], device=x.device)
    behind = places.unsqueeze(1) - places  # (L, L)
    mask = torch.zeros(behind.shape, device=x.device).masked_fill(behind < 0, -math.inf)
    return behind.clamp(min=0), mask
