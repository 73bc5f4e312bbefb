"""What recommendations are worth, part by part; every figure a JSON line, skips on standard error.

python -m tests.benchmarks.bench_recommender --only journey --systems popularity --systems item-knn
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import click

PARTS = ("ml1m", "sparse", "journey", "taste", "coldstart", "epoch")


@click.command()
@click.option("--only", "parts", multiple=True, type=click.Choice(PARTS), help="Default: all.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--quick", is_flag=True, help="ml1m: ten minutes of training, one seed.")
@click.option(
    "--release",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="ml1m, sparse, journey: measure this folder instead of training.",
)
@click.option("--systems", multiple=True, help="journey: only these.")
@click.option(
    "--minutes", type=click.FloatRange(0), default=0.0, help="Of a training; 0: no limit."
)
@click.option(
    "--train",
    "arguments",
    default="",
    help="Further arguments of `shopstream train recommender`, in one string.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--peer-epochs",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="journey: of RecTools' SASRec.",
)
@click.option(
    "--events",
    type=click.IntRange(500),
    default=8_000,
    show_default=True,
    help="taste, coldstart: what the simulated shop has seen.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="epoch: how many are timed.",
)
def main(
    parts: tuple[str, ...],
    seeds: int,
    quick: bool,
    release: Path | None,
    systems: tuple[str, ...],
    minutes: float,
    arguments: str,
    threads: int,
    peer_epochs: int,
    events: int,
    epochs: int,
) -> None:  # fmt: skip
    """Measure the parts asked for; one whose data is absent says so and is left out."""
    from tests.benchmarks.recommender import coldstart, epoch, journey, ml1m, sparse, taste
    from tests.benchmarks.recommender.ours import TrainingPlan

    plan = TrainingPlan(7, minutes, threads, tuple(shlex.split(arguments)), release)
    runs: dict[str, Callable[[], None]] = {
        "ml1m": lambda: ml1m.run(plan, seeds, quick),
        "sparse": lambda: sparse.run(plan),
        "journey": lambda: journey.run(systems, plan, peer_epochs),
        "taste": lambda: taste.run(seeds, events),
        "coldstart": lambda: coldstart.run(seeds, events),
        "epoch": lambda: epoch.run(plan, epochs),
    }
    for part in parts or PARTS:
        try:
            runs[part]()
        except SystemExit as end:  # its data is absent, which has been said: the others go on
            if end.code:
                raise


if __name__ == "__main__":
    main()
