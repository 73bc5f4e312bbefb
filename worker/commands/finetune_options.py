"""The options of a joint training, L = L_pretrain + α·L_task, and how its result is shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from training.processes import is_first
from worker.commands.training_options import alpha_option, json_document, loop_options

if TYPE_CHECKING:
    from training.finetune import FinetuneOptions
    from training.tasks.train_retrieval import RetrievalResult

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--model", default="", help="Folder or hub id; empty: the packaged MiniLM."),
    click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True),
    alpha_option,
    click.option("--texts", multiple=True,
                 type=click.Path(exists=True, dir_okay=False, path_type=Path),
                 help="What L_pretrain reads, so that it is not forgotten; default: the task's own"
                 " texts. May stand several times."),
    click.option("--text-field", "fields", multiple=True, default=("text",), show_default=True,
                 help="Column of --texts."),
    click.option("--max-tokens", type=click.IntRange(16, 512), default=128, show_default=True),
    click.option("--whole-word", "whole_words", is_flag=True,
                 help="Mask whole words, Chinese ones by jieba."),
    click.option("--head-steps", type=click.IntRange(min=1), default=300, show_default=True,
                 help="For the language head of a checkpoint that has none."),
    click.option("--name", default="", help="Name of the model; empty: the folder's."),
)  # fmt: skip
_FIELDS = (
    "model", "out", "alpha", "texts", "fields", "max_tokens", "whole_words", "head_steps", "name",
)  # fmt: skip


def finetune_options(command: Command) -> Command:
    """Add the options; their values come to the function as `**values`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def take_options(values: dict[str, Any]) -> FinetuneOptions:
    """Return the values as options, taken out of `values`."""
    from training.finetune import FinetuneOptions

    loop = loop_options(values)
    return FinetuneOptions(loop=loop, **{name: values.pop(name) for name in _FIELDS})


def show_retrieval(result: RetrievalResult, as_json: bool) -> None:
    """Print what a training of queries and passages came to."""
    if not is_first():
        return
    if as_json:
        click.echo(json_document(result))
        return
    click.echo(
        f"{result.pairs:,} pairs to learn from, {result.tested_queries:,} held-out queries over "
        f"all {result.passages:,} passages ({result.split})"
    )
    if not result.after:
        click.echo("nothing was held out, so nothing is measured: give more pairs")
    for name, estimate in result.after.items():
        click.echo(f"{name:10} {result.before[name].value:.4f} -> {estimate}")
    if result.language_loss and result.language_loss_before:
        before, after = result.language_loss_before.value, result.language_loss
        click.echo(f"{'language':10} {before:.4f} -> {after} (loss, lower is better)")
    click.echo(f"The model stands in {result.out}.")
