"""One batch through the network to its summed loss: which items are encoded, which are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.learnt.history_batch import UNKNOWN_ITEM, PaddedEvents, last_purchases_at
from models.recommender import RecommenderNetwork
from training.recommender.losses import LossName, gbce_loss, sampled_softmax_loss, softmax_loss
from training.recommender.negatives import NegativeDraw
from training.recommender.sequences.batches import TrainingBatch
from training.recommender.sequences.event_sequences import EventSequences


@dataclass(frozen=True, slots=True)
class LossOptions:
    """Which loss, and of the sampled ones how many negatives a batch shares."""

    loss: LossName = "softmax"
    negatives: int = 1_024
    popular_share: float = 0.5  # of the negatives of sampled softmax: drawn by popularity
    gbce_calibration: float = 0.75


def batch_loss(
    network: RecommenderNetwork,
    sequences: EventSequences,
    batch: TrainingBatch,
    options: LossOptions,
    negatives: NegativeDraw | None,
) -> Tensor:
    """Return the summed loss of a batch; random draws come from torch's global generator.

    `negatives` is `negative_draw(sequences, options)`.
    """
    wanted = batch.targets >= 0
    targets = batch.targets[wanted]  # (n,)
    last = last_purchases_at(batch.events, sequences.items)[wanted]
    if negatives is None:
        items = _item_inputs(network, sequences, None)
        states = _states(network, sequences, batch, items, None)[wanted]
        states = network.shopper_vectors(states)
        bonus = network.bonus(last, states, own=targets)
        return softmax_loss(states, network.score_vectors(items), targets, bonus)
    drawn, log_expected = (part.to(targets.device) for part in negatives.draw())
    events = batch.events.event_rows
    met = events[(events >= 0) & (events < sequences.items)]
    rows = torch.unique(torch.cat([met, targets, drawn]))  # (r,) the items of this batch
    items = _item_inputs(network, sequences, rows)
    states = _states(network, sequences, batch, items, rows)[wanted]
    vectors, states = network.score_vectors(items), network.shopper_vectors(states)
    bonus = network.bonus(last, states, own=targets)
    positives = vectors[torch.searchsorted(rows, targets)]
    others = vectors[torch.searchsorted(rows, drawn)]
    if options.loss == "gbce":
        return gbce_loss(
            states, positives, others, drawn, targets, sequences.items, options.gbce_calibration,
            bonus,
        )  # fmt: skip
    return sampled_softmax_loss(states, positives, others, log_expected, drawn, targets, bonus)


def negative_draw(sequences: EventSequences, options: LossOptions) -> NegativeDraw | None:
    """Return what draws the loss's negatives; None where all items stand against each target."""
    if options.loss == "softmax":
        return None
    # gBCE's power holds for even draws
    share = options.popular_share if options.loss == "sampled-softmax" else 0.0
    return NegativeDraw(sequences, options.negatives, share)


def _item_inputs(
    network: RecommenderNetwork, sequences: EventSequences, rows: Tensor | None
) -> Tensor:
    texts = sequences.text_vectors
    if texts is None:
        return network.item_inputs(rows, None)
    known = torch.from_numpy(texts)
    picked = known if rows is None else known[rows.cpu()]
    return network.item_inputs(rows, picked.to(network.device))


def _states(
    network: RecommenderNetwork,
    sequences: EventSequences,
    batch: TrainingBatch,
    items: Tensor,
    rows: Tensor | None,
) -> Tensor:
    """Return the states of every token: (B, L, D); `items` are the inputs of `rows`, or of all."""
    event_rows = batch.events.event_rows
    if rows is not None:
        is_item = (event_rows >= 0) & (event_rows < sequences.items)
        places = torch.searchsorted(rows, event_rows.clamp(min=0))
        event_rows = torch.where(is_item, places, event_rows)
    queries = sequences.query_vectors
    if queries is not None and len(queries):
        is_query = batch.events.event_rows >= sequences.items
        met, places = torch.unique(batch.events.event_rows[is_query], return_inverse=True)
        vectors = torch.from_numpy(queries)[(met - sequences.items).cpu()].to(items.device)
        unknown = torch.full((len(met),), UNKNOWN_ITEM, device=items.device)
        event_rows = event_rows.clone()
        event_rows[is_query] = places + len(items)
        items = torch.cat([items, network.item_inputs(unknown, vectors)])
    events = batch.events
    moved = PaddedEvents(event_rows, events.kinds, events.gaps, events.stars)
    return network.run(moved, items)
