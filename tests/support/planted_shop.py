"""A tiny shop whose shoppers follow a rule: after item i mostly comes item i + 1."""

from __future__ import annotations

import numpy as np

from training.recommender.sequences.event_sequences import EventSequences, from_purchases

ITEMS = 40


def planted_sequences(
    shoppers: int = 200, length: int = 12, *, seed: int = 0, kept: float = 0.9
) -> EventSequences:
    """Return purchases of which a share `kept` follows the rule, the others fall anywhere."""
    draw = np.random.default_rng(seed)
    rows = np.empty((shoppers, length), dtype=np.int64)
    rows[:, 0] = draw.integers(ITEMS, size=shoppers)
    for step in range(1, length):
        follows = draw.random(shoppers) < kept
        rows[:, step] = np.where(
            follows, (rows[:, step - 1] + 1) % ITEMS, draw.integers(ITEMS, size=shoppers)
        )
    users = np.repeat(np.arange(shoppers), length)
    return from_purchases(users, rows.flatten(), [f"p{item}" for item in range(ITEMS)])
