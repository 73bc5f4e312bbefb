"""The public data that the recommender is measured on, split as its figures say."""

from __future__ import annotations

from functools import cache

import pyarrow.parquet as pq

from tests.benchmarks.figures import shared_file
from training.data.interactions import Interactions, read_interactions
from training.data.splits import Split, leave_one_out, time_split

ML_1M = ("data", "recommendation", "ml-1m", "ml-1m.txt.gz")
JOURNEY = ("data", "recommendation", "complete-journey", "transactions_weeks_01_40.parquet")
INSTRUMENTS = ("data", "reviews", "amazon_musical_instruments_5core.jsonl.gz")
LAST_TRAINING_WEEK = 32


def ml_1m() -> Split:
    """MovieLens-1M in the usual SASRec form, leave-one-out."""
    return leave_one_out(read_interactions(shared_file(*ML_1M)))


def complete_journey() -> Split:
    """Groceries of 2,469 households: weeks to 32 train, each one's next basket is the test."""
    return time_split(read_interactions(shared_file(*JOURNEY)), journey_test_from_ms())


@cache
def journey_test_from_ms() -> int:
    """Return the time of the first purchase after the training weeks, in milliseconds."""
    table = pq.read_table(shared_file(*JOURNEY), columns=["week", "transaction_timestamp"])
    weeks = table.column("week").to_numpy()
    times_ns = table.column("transaction_timestamp").to_numpy().astype("int64")
    return int(times_ns[weeks > LAST_TRAINING_WEEK].min() // 1_000_000)


def describe(interactions: Interactions) -> str:
    """Return the size of a part, for figures."""
    return (
        f"{len(interactions):,} events, {interactions.user_count:,} users,"
        f" {interactions.item_count:,} items"
    )
