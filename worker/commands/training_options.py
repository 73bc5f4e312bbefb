"""The options that every training of a language model shares, and how its result is shown."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from training.processes import is_first

if TYPE_CHECKING:
    from training.loop.options import LoopOptions

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--epochs", type=click.FloatRange(min=0, min_open=True), default=1.0,
                 show_default=True, help="Passes over the data, where --steps does not say more."),
    click.option("--steps", type=click.IntRange(min=0), default=0, help="0: as --epochs says."),
    click.option("--batch", "batch_rows", type=click.IntRange(min=1), default=32,
                 show_default=True, help="Rows of a step (per GPU)."),
    click.option("--accumulation", type=click.IntRange(min=1), default=1, show_default=True,
                 help="Batches summed into one step, where memory is short."),
    click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), default=5e-5,
                 show_default=True),
    click.option("--lora-rank", type=click.IntRange(min=0), default=0, show_default=True,
                 help="Train adapters of this rank, merged at the end; wants ten times the"
                 " learning rate. 0: all weights."),
    click.option("--seed", type=int, default=7, show_default=True),
    click.option("--threads", type=click.IntRange(min=0), default=0, help="0: torch's default."),
    click.option("--cpu", is_flag=True, help="Do not use a GPU even where there is one."),
    click.option("--checkpoint-every", "checkpoint_every_steps", type=click.IntRange(min=1),
                 default=500, show_default=True, help="Steps; a killed training goes on there."),
    click.option("--fresh", is_flag=True, help="Throw away what an interrupted training left."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON document."),
)  # fmt: skip

_LOOP_FIELDS = (
    "epochs", "steps", "batch_rows", "accumulation", "learning_rate", "lora_rank", "seed",
    "threads", "cpu", "checkpoint_every_steps", "fresh",
)  # fmt: skip


def training_options(command: Command) -> Command:
    """Add the shared options; their values come to the function as `**loop`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def loop_options(values: dict[str, Any]) -> LoopOptions:
    """Return the loop's part of a command's values, taken out of them."""
    from training.loop.options import LoopOptions

    return LoopOptions(**{name: values.pop(name) for name in _LOOP_FIELDS})


def log_to_stderr() -> None:
    """Send the log, with the training's progress, to standard error; of one process alone."""
    level = logging.INFO if is_first() else logging.ERROR
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)


def alpha_of(context: click.Context, parameter: click.Parameter, value: str) -> float:
    """Read α: a number of 0 or more, or `inf`."""
    try:
        alpha = float(value)
    except ValueError:
        alpha = math.nan
    if math.isnan(alpha) or alpha < 0:
        raise click.BadParameter("must be a number of 0 or more, or inf")
    return alpha


alpha_option = click.option(
    "--alpha", default="1.0", show_default=True, callback=alpha_of, metavar="NUMBER",
    help="L = L_pretrain + ALPHA * L_task; inf: the task alone, which forgets the language.",
)  # fmt: skip


def json_document(value: Any) -> str:
    """Return a result as one JSON document; paths as text, numbers that are none as null."""
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if math.isinf(value) else None
    return str(value) if isinstance(value, Path) else value
