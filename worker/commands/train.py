"""`shopstream train`: from labeled data to a model; a file a task."""

from __future__ import annotations

import click

from worker.commands.lazy_group import LazyGroup

# name -> one line of help; the module is train_<name>
_TASKS = {
    "recommender": "Train the recommender from interactions or samples.",
    "search": "Fine-tune the trunk: search -> product, from samples or pairs.",
    "answers": "Fine-tune the trunk: question -> passage, from samples or judged questions.",
    "sentiment": "Train a sentiment head, with or without the trunk below it.",
    "pairs": "The classic recipe: BERT or GPT on search -> purchase pairs.",
}


@click.group("train", cls=LazyGroup, commands_help=_TASKS, prefix="worker.commands.train_")
def command() -> None:
    """Train a model from samples or public data."""
