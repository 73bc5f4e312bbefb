"""The time of a training epoch beside RecTools' SASRec: same data, tokens of a batch, machine."""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
import torch

from models.recommender import RecommenderConfig
from tests.benchmarks.figures import print_figure
from tests.benchmarks.recommender.datasets import ml_1m
from tests.benchmarks.recommender.ours import TrainingPlan
from tests.benchmarks.recommender.peers import PeerFailed, SasRecOptions, train_sasrec
from training.data.splits import Cases, Split
from training.recommender.job import sequences_of
from training.recommender.next_item_step import LossOptions
from training.recommender.sequences.held_out import hold_out_last
from training.recommender.train import Progress, RecommenderTraining, train_recommender

WINDOW = 200  # tokens of a history, both
BATCH_ROWS = 25  # of the peer, each padded to the window: 5,000 tokens a batch, as ours
BLOCKS, WIDTH = 2, 128
ONE_CASE = 1


def run(plan: TrainingPlan, epochs: int) -> None:
    """Train both on ML-1M with a softmax over all items, and print the ratio of epoch times.

    Width, blocks, heads, window and tokens of a batch are the same; the block of each is its own.
    """
    split = ml_1m()
    few = _few(split.test)
    options = SasRecOptions(
        epochs=epochs,
        threads=plan.threads,
        n_blocks=BLOCKS,
        n_factors=WIDTH,
        session_max_len=WINDOW,
        batch_size=BATCH_ROWS,
    )
    ours = _our_epochs(split, plan, epochs)
    print(f"ours, seconds of clock and processor an epoch: {ours}", file=sys.stderr)
    try:
        theirs = list(train_sasrec(split, few, options).epoch_s)
    except PeerFailed as error:
        print(f"skipped: {error}", file=sys.stderr)
        return
    # a machine shared with others stretches the clock; on a GPU the processor only waits
    timer = 0 if torch.cuda.is_available() else 1
    ours_s, peer_s = ([epoch[timer] for epoch in part] for part in (ours, theirs))
    print_figure(
        "epoch_time_ratio",
        statistics.median(ours_s) / statistics.median(peer_s),
        "our epoch over RecTools' SASRec",
        goal="<= 0.333",
        seconds_of=("clock", "processor")[timer],
        ours_s=[round(s, 1) for s in ours_s],
        peer_s=[round(s, 1) for s in peer_s],
        threads=plan.threads,
        blocks=BLOCKS,
        width=WIDTH,
        batch_tokens=WINDOW * BATCH_ROWS,
    )


def _our_epochs(split: Split, plan: TrainingPlan, epochs: int) -> list[tuple[float, float]]:
    """Return seconds of clock and processor of each of our epochs, one validated case counted."""
    torch.set_num_threads(plan.threads)
    train, held = hold_out_last(sequences_of(split.train), remove_seen=True)
    config = RecommenderConfig(
        items=train.items, width=WIDTH, hidden=2 * WIDTH, blocks=BLOCKS,
        max_events=WINDOW,
    )  # fmt: skip
    marks = [(time.perf_counter(), time.process_time())]

    def mark(step: Progress) -> None:
        if step.batch == step.batches:
            marks.append((time.perf_counter(), time.process_time()))

    found = train_recommender(
        config,
        train,
        held,
        RecommenderTraining(
            seed=plan.seed,
            epochs=epochs,
            min_steps=0,
            max_tokens=WINDOW * BATCH_ROWS,
            validation_cases=ONE_CASE,
        ),
        LossOptions("softmax"),
        report=mark,
    )
    assert found.steps
    return [(float(clock), float(cpu)) for clock, cpu in np.diff(marks, axis=0)]


def _few(cases: Cases) -> Cases:
    """Return the first case: what is measured is training."""
    times = cases.history_times_ms
    return Cases(
        cases.users[:1],
        cases.histories[:1],
        None if times is None else times[:1],
        cases.targets[:1],
        None if cases.asked_at_ms is None else cases.asked_at_ms[:1],
    )
