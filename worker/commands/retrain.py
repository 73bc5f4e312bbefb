"""`shopstream retrain`: the periodic job that closes the loop."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.settings import Settings
from worker.topics.product_export import FILE_NAME

if TYPE_CHECKING:
    from models.releases.gate_record import GateDecision
    from training.job.run import JobReport
    from worker.commands.retraining import Retraining

logger = logging.getLogger(__name__)
PARTS = ("sentiment", "recommender", "trunk")
DEFAULT_PARTS = ("sentiment", "recommender")
_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class _Parts(click.ParamType):
    name = "parts"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(PARTS) if value == "all" else tuple(str(value).split(","))
        unknown = [name for name in names if name not in PARTS]
        if unknown:
            self.fail(f"{unknown[0]!r} is none of {', '.join(PARTS)} or all", param, ctx)
        return names


class _Duration(click.ParamType):
    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", str(value))
        if found is None or float(found[1]) <= 0:
            self.fail(f"{value!r} is no time such as 30m, 6h or 1d", param, ctx)
        return float(found[1]) * _UNITS_S[found[2]]


@click.command("retrain")
@click.option(
    "--samples", type=click.Path(file_okay=False, path_type=Path), required=True,
    help="Folder of the samples; new ones are exported into it first.",
)  # fmt: skip
@click.option(
    "--work", type=click.Path(file_okay=False, path_type=Path),
    help="Where a killed job goes on; default: SAMPLES/.retrain.",
)  # fmt: skip
@click.option("--every", "every_s", type=_Duration(), help="Run again after 6h, 30m, 1d …")
@click.option(
    "--part", "--parts", "chosen", multiple=True, type=_Parts(), metavar="NAME,…",
    help=f"What to train: {', '.join(PARTS)}, or all; may stand several times. "
    f"[default: {','.join(DEFAULT_PARTS)}]",
)  # fmt: skip
@click.option("--no-export", is_flag=True, help="Take the samples as they stand.")
@click.option("--force", is_flag=True, help="Train although few samples are new.")
@click.option(
    "--share", type=click.FloatRange(0.0, 1.0, min_open=True, max_open=True),
    help="Try what passes on this share of the shoppers instead of promoting it.",
)  # fmt: skip
@click.option("--min-new", type=click.IntRange(min=1), default=100, show_default=True,
              help="New samples that wake a part.")  # fmt: skip
@click.option("--min-train", type=click.IntRange(min=1), default=200, show_default=True)
@click.option("--min-test", type=click.IntRange(min=20), default=100, show_default=True)
@click.option("--time-limit", "time_limit_s", type=_Duration(), default="30m", show_default=True,
              help="Of the recommender's training.")  # fmt: skip
@click.option("--alpha", type=click.FloatRange(min=0), default=1.0, show_default=True,
              help="Of the trunk: L = L_pretrain + ALPHA * L_task.")  # fmt: skip
@click.option("--trunk-samples", type=click.IntRange(min=1), default=20_000, show_default=True,
              help="The newest that a trunk learns from in one job.")  # fmt: skip
@click.option("--lora-rank", type=click.IntRange(min=0), default=0, show_default=True,
              help="Train adapters in the trunk instead of all its weights.")  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), help="Default: half the processors.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1 …")
@click.option("--nice", type=click.IntRange(0, 19), default=10, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a job.")
def command(
    samples: Path,
    work: Path | None,
    every_s: float | None,
    chosen: tuple[tuple[str, ...], ...],
    no_export: bool,
    force: bool,
    share: float | None,
    min_new: int,
    min_train: int,
    min_test: int,
    time_limit_s: float,
    alpha: float,
    trunk_samples: int,
    lora_rank: int,
    threads: int | None,
    device: str,
    nice: int,
    seed: int,
    as_json: bool,
) -> None:
    """Train what has new samples, judge it on the newest, and release it if it is better.

    PARTS: `sentiment` and `recommender` cost little on a CPU. `trunk` learns searches and questions
    too, and every part that reads it must follow: minutes to half an hour with the packaged model,
    and new vectors of all products in the workers.

    Runs beside live workers at low priority, never twice at once, and goes on where it was killed.
    Without --every it runs once (cron, CronJob): status 0 when it did its work, whether or not
    something passed the gate. The first job releases the workers' own models as a beginning.
    """
    from training.gate import GateOptions
    from training.job.options import JobOptions
    from worker.commands.retraining import (
        PartOptions,
        Retraining,
        default_threads,
        give_way,
        make_parts,
    )

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    threads = threads or default_threads()
    give_way(nice, threads)
    names = tuple(dict.fromkeys(name for some in chosen for name in some)) or DEFAULT_PARTS
    products = samples / FILE_NAME
    options = JobOptions(
        samples=samples,
        work=work or samples / ".retrain",
        products=products,
        seed=seed,
        threads=threads,
        device=device,
        max_tokens=Settings().max_text_tokens,
        min_train=min_train,
        min_new=min_new,
        force=force,
        gate=GateOptions(
            min_cases=min_test, false_pass_rate=GateOptions().false_pass_rate / len(names)
        ),
    )
    parts = make_parts(names, products, PartOptions(time_limit_s, alpha, trunk_samples, lora_rank))
    wanted = Retraining(options, parts, not no_export, share or 0.0)
    if every_s is None:
        _run_once(wanted, as_json)
    else:
        _run_forever(wanted, as_json, every_s)


def _run_once(wanted: Retraining, as_json: bool) -> None:
    from worker.commands.retraining import retrain

    started_s = time.monotonic()
    report = retrain(Settings(), wanted)
    seconds = round(time.monotonic() - started_s, 1)
    if as_json:
        click.echo(json.dumps(report.as_json() | {"seconds": seconds}, ensure_ascii=False))
    else:
        _show(report, seconds)


def _run_forever(wanted: Retraining, as_json: bool, every_s: float) -> None:
    """Run a job, wait, and again: a job that fails is told, and the next one goes on."""
    from worker.commands import sentence_of

    while True:
        started_s = time.monotonic()
        try:
            _run_once(wanted, as_json)
        except Exception as error:
            sentence = sentence_of(error)
            if sentence is None:
                raise
            logger.error("%s", sentence)
        time.sleep(max(0.0, every_s - (time.monotonic() - started_s)))


def _show(report: JobReport, seconds: float) -> None:
    for note in report.notes:
        click.echo(f"shopstream: {note}", err=True)
    for release_id, shoppers in report.marked.items():
        click.echo(f"{release_id} was trained on {shoppers} shopper(s) forgotten since.")
    for part, reason in report.skipped.items():
        click.echo(f"{part}: not trained: {reason}")
    for decision in report.decisions:
        verdict = "passed" if decision.passed else f"refused: {'; '.join(decision.reasons)}"
        gain = "" if decision.primary is None else f" ({decision.primary.metric} {_gain(decision)})"
        click.echo(f"{decision.part}: {verdict}{gain}")
    made = report.release_id
    click.echo(f"{made} is released" if made else f"{report.current} stays", nl=False)
    click.echo(f" after {seconds:g} s.")


def _gain(decision: GateDecision) -> str:
    assert decision.primary is not None
    primary = decision.primary
    return f"{primary.current.value:.4f} -> {primary.candidate.value:.4f}, {primary.difference}"
