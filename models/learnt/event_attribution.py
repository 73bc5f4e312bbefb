"""What each event of a history added to a recommender's scores: where reasons come from.

Direct logit attribution (Elhage et al. 2021): every block writes into the last state a sum over the
events that it read, each times attention and gate. Left out are what the SwiGLUs add and what
blocks gather into earlier states. The dot product of an event's part with an item is its weight:
other than raw attention it says for which item. Letters as in models/recommender.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from models.learnt.history_batch import HistoryBatch, PaddedEvents, padded_buckets
from models.recommender import Block, RecommenderNetwork, distances_of, ends_of


@torch.no_grad()
def event_weights(
    network: RecommenderNetwork, batch: HistoryBatch, item_vectors: Tensor
) -> list[Tensor]:
    """Return for each shopper (k, events): what each event added to the score of k items.

    `item_vectors` is (B, k, D).
    """
    _, parts = encode_with_parts(network, batch)
    return [items.float() @ part.T for items, part in zip(item_vectors, parts, strict=True)]


@torch.no_grad()
def encode_with_parts(
    network: RecommenderNetwork, batch: HistoryBatch
) -> tuple[Tensor, list[Tensor]]:
    """Return in one pass what `encode_histories` does, and each shopper's parts (events, D).

    Only the newest `max_events` have parts, older ones zeros.
    """
    config = network.config
    states = torch.empty((len(batch.lengths), config.width), device=network.device)
    found: list[Tensor] = [torch.empty(0)] * len(batch.lengths)
    inputs = network.item_inputs(batch.item_rows, batch.vectors)
    for rows, events in padded_buckets(batch, config.max_events, config.gap_buckets):
        last, parts = run_with_parts(network, events, inputs)
        states[rows] = last[: len(rows)]
        ends = ends_of(events)[: len(rows)].tolist()
        for row, part, end in zip(rows.tolist(), parts, ends, strict=False):
            older = int(batch.lengths[row]) - end
            found[row] = F.pad(part[1 : end + 1], (0, 0, older, 0))
    return network.shopper_vectors(states), found


def run_with_parts(
    network: RecommenderNetwork, events: PaddedEvents, inputs: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the last states (B, D), and what each token wrote into them (B, L, D)."""
    x = network.embed(events, inputs)
    distances, mask = distances_of(x)
    ends, rows = ends_of(events), torch.arange(len(x), device=x.device)
    written = torch.zeros(x.shape, device=x.device)
    written[rows, ends] += x[rows, ends].float()
    for module in network.blocks:
        assert isinstance(module, Block)
        q, k, v, gate = module.project(x)
        read = module.probabilities(q, k, module.bias(distances, mask).to(q.dtype))
        share = read[rows, :, ends].transpose(1, 2).unsqueeze(-1)  # (B, L, H, 1)
        parts = (share * v.transpose(1, 2)).flatten(2)  # (B, L, D)
        parts = parts @ module.attention_out.weight.T.to(parts.dtype)
        written += (parts * torch.sigmoid(gate[rows, ends]).unsqueeze(1)).float()
        x = module.add(x, (read @ v).transpose(1, 2).reshape(x.shape), gate)
    last = x[rows, ends].float()
    spread = (last.var(-1, unbiased=False) + network.norm.eps).sqrt().view(-1, 1, 1)
    centred = written - written.mean(-1, keepdim=True)
    states: Tensor = network.norm(x)[rows, ends].float()
    return states, centred / spread * network.norm.weight.float()
