"""`shopstream samples`: labeled samples for training."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click

from worker.commands.progress import ProgressLine
from worker.settings import Settings
from worker.topics.sample_export import export_samples, sample_stats


@click.group("samples")
def command() -> None:
    """Export and count labeled samples."""


@command.command()
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to fill."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def export(out: Path, as_json: bool) -> None:
    """Bring the samples topic into Parquet files: OUT/<kind>/date=<day>/samples.parquet.

    Goes on with what an earlier export wrote there. Each sample stands once, in its newest version;
    what a return took back and what a forgotten shopper did is left out, of older files too. Prints
    how many samples of each kind stand there now. Where a release store is set, its releases that
    were trained on shoppers forgotten since are marked.
    """
    settings = Settings()
    with ProgressLine("samples") as progress:
        counts = asyncio.run(export_samples(settings, out, progress.update))
    if settings.releases_url:
        counts["marked_releases"] = _mark_releases(settings, out)
    if as_json:
        click.echo(json.dumps(counts))
        return
    for name, count in counts.items():
        click.echo(f"{name}\t{count}")


@command.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def stats(folder: Path, as_json: bool) -> None:
    """Count the samples and shoppers of an exported FOLDER by kind."""
    found = sample_stats(folder)
    if as_json:
        click.echo(json.dumps(found))
        return
    for kind, figures in found.items():
        days = f"{figures['first_day']} to {figures['last_day']}" if figures["samples"] else "-"
        click.echo(f"{kind}\t{figures['samples']} samples\t{figures['shoppers']} shoppers\t{days}")


def _mark_releases(settings: Settings, out: Path) -> int:
    """Mark the releases that know a forgotten shopper; return how many there are."""
    from models.releases.notes import mark_releases
    from training.forgotten import forgotten_until
    from worker.topics.release_moves import open_store

    return len(mark_releases(open_store(settings), forgotten_until(out)))
