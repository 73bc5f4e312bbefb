"""`shopstream evaluate sentiment`: accuracy, macro F1 and calibration on labeled reviews."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from worker.errors import ShopstreamError


@click.command("sentiment")
@click.option("--reviews", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--text-field", default="text", show_default=True)
@click.option("--label-field", default="label", show_default=True, help="0/1 or stars from 1 to 5.")
@click.option("--model", default="", help="Trunk: folder or hub id; empty: packaged MiniLM.")
@click.option(
    "--release",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Release folder (trunk with heads/sentiment), or a head's own folder, which then stands "
    "on --model; default: the packaged head.",
)
@click.option("--held-out", is_flag=True, help="Only the texts that training holds out.")
@click.option("--max-tokens", type=click.IntRange(16, 512), default=256, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    reviews: Path,
    text_field: str,
    label_field: str,
    model: str,
    release: Path | None,
    held_out: bool,
    max_tokens: int,
    as_json: bool,
) -> None:
    """Accuracy, macro F1 and calibration error of a sentiment head on labeled reviews.

    Stars 1-2 are negative, 3 neutral, 4-5 positive. With 0/1 labels the head chooses between
    negative and positive. Intervals are 95 %, by bootstrap over reviews.
    """
    from models.text.sentiment import load, packaged_head
    from models.text_encoder import TextEncoder
    from training.data.reviews import part_of, read_reviews
    from training.evaluation.evaluate_sentiment import evaluate_sentiment

    rows = read_reviews(reviews, text_field, label_field)
    if held_out:
        rows = [row for row in rows if part_of(row.text) == "test"]
    whole = release is not None and (release / "config.json").is_file()
    if whole and model:
        raise ShopstreamError("a release brings its own trunk: name no --model beside it")
    trunk = TextEncoder.load(str(release) if whole else model, max_tokens=max_tokens)
    folder = release / "heads" / "sentiment" if release is not None and whole else release
    head = load(folder) if folder is not None else packaged_head(trunk)
    if head is None:
        raise ShopstreamError(
            f"no packaged sentiment head fits the trunk {trunk.release}: train one with `shopstream"
            " train sentiment` and name it with --release"
        )
    report = evaluate_sentiment(trunk, head, rows)
    if as_json:
        click.echo(json.dumps({"trunk": trunk.release, "head": head.release, **asdict(report)}))
        return
    click.echo(f"{head.release} on {trunk.release}, {len(rows):,} reviews of {reviews.name}")
    click.echo(f"accuracy {report.accuracy}\nmacro F1 {report.macro_f1}\nECE      {report.ece}")
