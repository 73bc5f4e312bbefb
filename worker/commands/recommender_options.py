"""The options of `shopstream train recommender`: the network's shape and how it learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from training.recommender.next_item_step import LossOptions
    from training.recommender.train import RecommenderTraining

Command = TypeVar("Command", bound=Callable[..., Any])
_COUNT, _SHARE = click.IntRange(min=1), click.FloatRange(0, 1, max_open=True)

_NETWORK = (
    click.option("--width", type=_COUNT, default=128, show_default=True),
    click.option("--blocks", type=_COUNT, default=4, show_default=True),
    click.option("--heads", type=_COUNT, default=2, show_default=True),
    click.option("--hidden", type=_COUNT, default=256, show_default=True, help="Of the SwiGLU."),
    click.option("--max-events", type=_COUNT, default=200, show_default=True,
                 help="The newest events of a history that are read."),
    click.option("--convolution", type=click.IntRange(1, 16), default=3, show_default=True,
                 help="Events that each place mixes before attention and SwiGLU; 1: none."),
    click.option("--successors", type=click.IntRange(min=0), default=64, show_default=True,
                 help="Of each item, the most frequent, counted; 0: none."),
    click.option("--neighbours", type=click.IntRange(min=0), default=256, show_default=True,
                 help="Of each item, the strongest weights of what goes together in whole"
                 " histories; 0: none."),
    click.option("--dropout", type=_SHARE, default=0.3, show_default=True),
    click.option("--id-dropout", type=_SHARE, default=0.1, show_default=True,
                 help="With texts: share of items that a step knows by their text alone."),
    click.option("--temperature", type=click.FloatRange(min=0), default=0.0, show_default=True,
                 help="Above 0: cosine scores divided by it (0.05 is usual); 0: dot products."),
)  # fmt: skip
_NETWORK_FIELDS = (
    "width", "blocks", "heads", "hidden", "max_events", "convolution", "successors",
    "neighbours", "dropout", "id_dropout", "temperature",
)  # fmt: skip

_TRAINING = (
    click.option("--loss", type=click.Choice(["softmax", "sampled-softmax", "gbce"]),
                 default="softmax", show_default=True,
                 help="Full softmax up to some 50,000 items; sampled ones beyond."),
    click.option("--negatives", type=_COUNT, default=1_024, show_default=True,
                 help="Of the sampled losses, shared by a batch."),
    click.option("--popular-negatives-share", type=click.FloatRange(0, 1), default=0.5,
                 show_default=True,
                 help="sampled-softmax: drawn as often as bought, the others evenly; logQ corrects"
                 " for both."),
    click.option("--target", type=click.Choice(["event", "visit"]), default="event",
                 show_default=True,
                 help="Learn the next purchase, or one of the next moment that has any: for shops"
                 " of baskets with times."),
    click.option("--epochs", type=_COUNT, default=26, show_default=True),
    click.option("--min-steps", type=click.IntRange(min=0), default=3_000, show_default=True,
                 help="Small data gets more epochs, until there are so many steps."),
    click.option("--batch-tokens", "max_tokens", type=_COUNT, default=5_000, show_default=True,
                 help="Events of a step and GPU, at most."),
    click.option("--optimizer", type=click.Choice(["muon", "adamw"]), default="muon",
                 show_default=True, help="muon: for the blocks' matrices, AdamW for the rest."),
    click.option("--learning-rate", type=click.FloatRange(min=0, min_open=True), default=1e-3,
                 show_default=True),
    click.option("--weight-decay", type=click.FloatRange(min=0), default=0.0, show_default=True,
                 help="Of the blocks' matrices; a step takes so much times its rate of them."),
    click.option("--warmup-steps", type=click.IntRange(min=0), default=100, show_default=True),
    click.option("--average-decay", type=_SHARE, default=0.998, show_default=True,
                 help="Running average of the weights, which is validated and kept; 0: none."),
    click.option("--random-window-share", type=click.FloatRange(0, 1), default=0.5,
                 show_default=True, help="Long histories: how often another part than the newest."),
    click.option("--patience", type=_COUNT, default=6, show_default=True,
                 help="Validations without a better one before it stops."),
    click.option("--validate-every", type=click.IntRange(min=0), default=0, show_default=True,
                 help="Epochs; 0: a hundred steps at least."),
    click.option("--validation-cases", type=click.IntRange(min=0), default=2_048,
                 show_default=True, help="Purchases that choose the epoch; 0: all."),
    click.option("--neighbour-trust", type=click.FloatRange(min=0),
                 help="Of the neighbours beside the network. Default: chosen by the purchases that"
                 " validate, 10,000 at most."),
    click.option("--time-limit-s", type=click.FloatRange(min=0), default=0.0,
                 help="The learning rate reaches its end by then; 0: none."),
    click.option("--precision", type=click.Choice(["auto", "bf16", "fp32"]), default="auto",
                 show_default=True, help="auto: bf16 where the device multiplies it faster."),
    click.option("--checkpoint-every-s", type=click.FloatRange(min=0), default=60.0,
                 show_default=True),
    click.option("--seed", type=int, default=7, show_default=True),
    click.option("--threads", type=click.IntRange(min=0), default=0, help="0: torch's default."),
    click.option("--cpu", is_flag=True, help="Do not use a GPU even where there is one."),
)  # fmt: skip
_TRAINING_FIELDS = (
    "epochs", "min_steps", "max_tokens", "optimizer", "learning_rate", "weight_decay",
    "warmup_steps", "average_decay", "random_window_share", "patience", "validate_every",
    "validation_cases", "neighbour_trust", "time_limit_s", "precision", "checkpoint_every_s",
    "seed",
)  # fmt: skip


def network_options(command: Command) -> Command:
    """Add the options of the network's shape."""
    for option in reversed(_NETWORK):
        command = option(command)
    return command


def training_options(command: Command) -> Command:
    """Add the options of the training."""
    for option in reversed(_TRAINING):
        command = option(command)
    return command


def take(
    values: dict[str, Any], *, visits: bool
) -> tuple[RecommenderTraining, LossOptions, dict[str, Any]]:
    """Return the training's options, the loss's, and the network's fields, out of the values."""
    from training.recommender.next_item_step import LossOptions
    from training.recommender.train import RecommenderTraining

    fields = {name: values.pop(name) for name in _NETWORK_FIELDS}
    loss = LossOptions(
        loss=values.pop("loss"),
        negatives=values.pop("negatives"),
        popular_share=values.pop("popular_negatives_share"),
    )
    training = {name: values.pop(name) for name in _TRAINING_FIELDS}
    return RecommenderTraining(visits=visits, **training), loss, fields
