"""What both stores derive from a step before they run it."""

from __future__ import annotations

from worker.store.contract import PutProduct, RemoveProduct, StateStep


def read_users(step: StateStep) -> list[str]:
    """Return the shoppers to read, each once, in the order asked."""
    return list(dict.fromkeys(step.read_users))


def step_users(step: StateStep) -> list[str]:
    """Return all shoppers of a step, each once: first those to read, then others that change."""
    changed = (
        change.user_id
        for change in step.changes
        if not isinstance(change, PutProduct | RemoveProduct)
    )
    return list(dict.fromkeys((*step.read_users, *changed)))
