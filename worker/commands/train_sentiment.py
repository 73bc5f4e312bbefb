"""`shopstream train sentiment`: a head on a trunk, or the trunk with it."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training.processes import is_first
from worker.commands.finetune_options import finetune_options, take_options
from worker.commands.training_options import (
    json_document,
    log_to_stderr,
    training_options,
)

if TYPE_CHECKING:
    from training.data.reviews import LabeledReview
    from training.finetune import FinetuneOptions
    from training.tasks.train_sentiment import SentimentTraining

Sources = list[tuple[Path, str, str]]


@click.command("sentiment")
@click.option(
    "--reviews",
    "sources",
    multiple=True,
    metavar="FILE:TEXT:LABEL",
    help="JSONL, CSV or TSV (.gz) with its text and label columns; may stand several times.",
)
@click.option("--samples", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Folder of `shopstream samples export`: its reviews with stars.")  # fmt: skip
@click.option("--max-reviews", type=click.IntRange(min=0), default=0, help="Of a class; 0: all.")
@click.option("--finetune-trunk", is_flag=True,
              help="Train the trunk too: L = L_MLM + ALPHA * L_task. The options below that speak"
              " of texts, steps and rates are for this.")  # fmt: skip
@finetune_options
@training_options
@click.pass_context
def command(
    context: click.Context,
    /,
    sources: tuple[str, ...],
    samples: Path | None,
    max_reviews: int,
    finetune_trunk: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Train a sentiment head on a frozen trunk; SHOPSTREAM_SENTIMENT_HEAD then names its folder.

    With --finetune-trunk the result is a trunk for SHOPSTREAM_MODEL, and the head that fits it
    stands in its folder heads/sentiment. Labels are 0/1 or stars from 1 to 5. A fifth of the texts,
    chosen by a hash, is held out.
    """
    from training.data.reviews import read_reviews, sampled_reviews
    from training.tasks.train_sentiment import SentimentTraining

    if not sources and samples is None:
        raise click.UsageError("give --reviews FILE:TEXT:LABEL, or --samples DIR")
    if not finetune_trunk:
        _refuse_trunk_options(context)
    log_to_stderr()
    parsed = [_source(source) for source in sources]
    reviews = [review for path, text, label in parsed for review in read_reviews(path, text, label)]
    if samples is not None:
        reviews += sampled_reviews(samples)
        parsed.append((samples / "review", "text", "stars"))
    options = take_options(values)
    training = SentimentTraining(seed=options.loop.seed, max_reviews=max_reviews)
    if finetune_trunk:
        _train_trunk(reviews, options, training, parsed, as_json)
    else:
        _train_head(reviews, options, training, parsed, as_json)


def _refuse_trunk_options(context: click.Context) -> None:
    for name in ("alpha", "texts", "lora_rank", "epochs", "steps", "learning_rate"):
        source = context.get_parameter_source(name)
        if source is not None and source is not click.core.ParameterSource.DEFAULT:
            option = name.replace("_", "-")
            raise click.UsageError(f"--{option} is for the trunk: add --finetune-trunk")


def _train_trunk(
    reviews: list[LabeledReview],
    options: FinetuneOptions,
    training: SentimentTraining,
    parsed: Sources,
    as_json: bool,
) -> None:
    from training.tasks.train_sentiment_trunk import HEAD_FOLDER, train_sentiment_trunk

    result = train_sentiment_trunk(reviews, options, training, [path for path, _, _ in parsed])
    report = result.report
    if report is None or not is_first():
        return
    if as_json:
        click.echo(json_document(result))
        return
    click.echo(f"accuracy {report.accuracy}\nmacro F1 {report.macro_f1}\nECE {report.ece}")
    if result.language_loss and result.language_loss_before:
        before, after = result.language_loss_before.value, result.language_loss
        click.echo(f"language {before:.4f} -> {after} (loss, lower is better)")
    click.echo(f"The trunk stands in {result.out}, its head in {result.out / HEAD_FOLDER}.")


def _train_head(
    reviews: list[LabeledReview],
    options: FinetuneOptions,
    training: SentimentTraining,
    parsed: Sources,
    as_json: bool,
) -> None:
    from models.text.sentiment import save
    from models.text_encoder import TextEncoder
    from training.tasks.train_sentiment import train_sentiment

    loop = options.loop
    trunk = TextEncoder.load(
        options.model, max_tokens=options.max_tokens, threads=loop.threads,
        device="cpu" if loop.cpu else "auto",
    )  # fmt: skip
    head, report, rows = train_sentiment(trunk, reviews, training)
    name = options.name or "sentiment"
    names = [f"{path.name}:{text}:{label}" for path, text, label in parsed]
    lineage = {
        "trunk": trunk.release,
        "trunk_weights": trunk.trunk_release.weights_checksum,
        "data": names,
        "rows": rows,
        "parts": "by hash of the text: 70 % train, 10 % validation, 20 % test",
        "seed": loop.seed,
        "max_reviews": training.max_reviews,
        "max_tokens": options.max_tokens,
        "test": asdict(report),
        "made": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(
            [
                "shopstream",
                "train",
                "sentiment",
                *(f"--reviews={source}" for source in names),
                *((f"--model={Path(options.model).name}",) if options.model else ()),
                f"--name={name}",
                f"--max-reviews={training.max_reviews}",
                f"--max-tokens={options.max_tokens}",
            ]
        ),
    }
    save(head, options.out, name=name, lineage=lineage)
    if as_json:
        click.echo(json.dumps(lineage, ensure_ascii=False))
        return
    click.echo(f"accuracy {report.accuracy}\nmacro F1 {report.macro_f1}\nECE {report.ece}")
    click.echo(f"The head stands in {options.out}.")


def _source(source: str) -> tuple[Path, str, str]:
    path, separator, label = source.rpartition(":")
    path, second, text = path.rpartition(":")
    if not (separator and second and path and text and label):
        raise click.UsageError(f"{source!r} is not FILE:TEXT:LABEL")
    return Path(path), text, label
