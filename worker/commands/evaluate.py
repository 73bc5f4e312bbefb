"""`shopstream evaluate`: measure a model, with confidence intervals; a file a task."""

from __future__ import annotations

import click

from worker.commands.lazy_group import LazyGroup

# name -> one line of help; the module is evaluate_<name>
_TASKS = {
    "recommendations": "Ranks the whole catalogue for held-out purchases.",
    "search": "Ranks products against judgments, as the worker ranks them.",
    "sentiment": "Judges the tags of labeled reviews.",
    "answers": "Ranks the candidates of questions.",
}


@click.group("evaluate", cls=LazyGroup, commands_help=_TASKS, prefix="worker.commands.evaluate_")
def command() -> None:
    """Measure a model with confidence intervals."""
