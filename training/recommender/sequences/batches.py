"""Batches of training windows: a token budget each, similar lengths together, nothing wasted.

A plan is a pure function of seed and epoch, so that a resumed training meets the same batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.learnt.history_batch import UNKNOWN_ITEM, PaddedEvents, gap_bucket
from training.recommender.sequences.event_sequences import EventSequences, Rows, Targets

_JITTER = 0.05  # lengths are mixed by this share, so that batches differ between epochs


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Windows as the network runs them, and what each token is trained to tell."""

    events: PaddedEvents  # (B, L); rows of inputs as in EventSequences
    targets: Tensor  # (B, L) item row of the next purchase, UNKNOWN_ITEM: nothing to learn

    def to(self, device: torch.device) -> TrainingBatch:
        """Return the batch on a device."""
        events = self.events
        moved = (events.event_rows, events.kinds, events.gaps, events.stars)
        return TrainingBatch(
            PaddedEvents(*(part.to(device) for part in moved)), self.targets.to(device)
        )


@dataclass(frozen=True, slots=True)
class Windows:
    """Ranges of events: `starts` and `lengths` (n,), each inside one shopper's sequence."""

    starts: Rows
    lengths: Rows


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """The windows of an epoch, the rows of them that each batch holds, and what is told."""

    windows: Windows
    batches: list[Rows]
    targets: Targets


def plan_epoch(
    sequences: EventSequences,
    *,
    max_events: int,
    random_window_share: float,
    max_tokens: int,
    visits: bool,
    draw: np.random.Generator,
) -> EpochPlan:
    """Return what an epoch trains on, all of it drawn by `draw`."""
    windows = draw_windows(sequences.offsets, max_events, random_window_share, draw)
    batches = plan_batches(windows.lengths, max_tokens, draw)
    return EpochPlan(windows, batches, sequences.targets(visits, draw))


def draw_windows(
    offsets: Rows, max_events: int, random_share: float, draw: np.random.Generator
) -> Windows:
    """Return one window for each shopper: the newest events, or for this share any others.

    Only shoppers with more than `max_events` events have a choice.
    """
    lengths = np.diff(offsets)
    kept = np.minimum(lengths, max_events)
    spare = lengths - kept
    anywhere = draw.random(len(lengths)) < random_share
    shift = np.where(anywhere, np.floor(draw.random(len(lengths)) * (spare + 1)), spare)
    windows = Windows(offsets[:-1] + shift.astype(np.int64), kept)
    some = kept > 0
    return Windows(windows.starts[some], windows.lengths[some])


def plan_batches(lengths: Rows, max_tokens: int, draw: np.random.Generator) -> list[Rows]:
    """Return rows of each batch, in a random order: start tokens and padding in the budget."""
    jittered = lengths * (1 + _JITTER * draw.random(len(lengths)))
    order = np.argsort(jittered, kind="stable")
    batches, start = [], 0
    tokens = lengths[order] + 1
    while start < len(order):
        end, longest = start, 0
        while end < len(order):
            longest = max(longest, int(tokens[end]))
            if end > start and longest * (end - start + 1) > max_tokens:
                break
            end += 1
        batches.append(order[start:end])
        start = end
    draw.shuffle(batches)
    return batches


def fill(
    sequences: EventSequences, targets: Targets, windows: Windows, rows: Rows, gap_buckets: int
) -> TrainingBatch:
    """Return the batch of these windows, as long as its longest.

    The start token is trained only where the window is the beginning of a history: that is what it
    stands for.
    """
    starts, lengths = windows.starts[rows], windows.lengths[rows]
    places = np.arange(int(lengths.max()) + 1)
    here = (places > 0) & (places <= lengths[:, None])  # (B, L)
    events = np.where(here, starts[:, None] + places - 1, 0)
    wanted = np.where(here, targets.after[events], UNKNOWN_ITEM)
    shoppers = np.searchsorted(sequences.offsets, starts, side="right") - 1
    begins = sequences.offsets[shoppers] == starts
    wanted[:, 0] = np.where(begins, targets.first[shoppers], UNKNOWN_ITEM)
    return TrainingBatch(
        PaddedEvents(
            event_rows=torch.from_numpy(np.where(here, sequences.inputs[events], UNKNOWN_ITEM)),
            kinds=torch.from_numpy(np.where(here, sequences.kinds[events], 0)),
            gaps=gap_bucket(torch.from_numpy(sequences.gaps_s[events] * here), gap_buckets),
            stars=torch.from_numpy(np.rint(sequences.stars[events] * here).astype(np.int64)),
        ),
        torch.from_numpy(wanted),
    )


def padding_share(lengths: Rows, batches: list[Rows]) -> float:
    """Return the share of the tokens that are padding."""
    padded = sum((int(lengths[rows].max()) + 1) * len(rows) for rows in batches)
    return 1.0 - float((lengths + 1).sum()) / padded if padded else 0.0
