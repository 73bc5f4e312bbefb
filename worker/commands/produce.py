"""`shopstream produce`: a shop's files to Kafka."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

import click

from worker.commands.progress import ProgressLine
from worker.errors import ShopstreamError
from worker.events.column_map import ColumnMap
from worker.events.event import EventKind
from worker.settings import Settings
from worker.topics.produce import ProduceJob, ProduceReport, dry_run, produce

_SHOWN_FAULTS = 20


class NothingSent(ShopstreamError):
    """Not one row was good."""


@click.command("produce")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    "--kind", required=True, type=click.Choice([kind.value for kind in EventKind]), help="Of event."
)
@click.option(
    "--map",
    "map_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML map from the files' columns to the event's fields; examples in docs/maps.",
)
@click.option("--rate", type=click.FloatRange(min=0), default=0.0, help="Events a second, 0: all.")
@click.option(
    "--timestamps",
    type=click.Choice(["now", "event"]),
    default="now",
    show_default=True,
    help="Time of the Kafka records; with `event` Kafka's retention counts from it.",
)
@click.option("--limit", type=click.IntRange(min=0), default=0, help="Events to make, 0: all.")
@click.option("--dry-run", "dry", is_flag=True, help="Check the rows, send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    files: tuple[Path, ...],
    kind: str,
    map_file: Path | None,
    rate: float,
    timestamps: str,
    limit: int,
    dry: bool,
    as_json: bool,
) -> None:
    """Send JSONL, CSV, TSV or Parquet FILES (plain or .gz) to Kafka as events of one kind.

    Every row is checked as the worker would check it: a bad row is reported with its line, the
    rest goes on. Sending a file twice is harmless.
    """
    job = ProduceJob(
        files,
        EventKind(kind),
        ColumnMap.load(map_file) if map_file is not None else None,
        rate,
        timestamps == "event",
        limit,
    )
    if dry:
        report = dry_run(Settings(), job)
        _print(report, dry, as_json)
    else:
        report = ProduceReport()
        try:
            with ProgressLine("events") as progress:
                asyncio.run(produce(Settings(), job, report, progress.update))
        finally:  # also of a job that Kafka or a broken file cut short
            _print(report, dry, as_json)
    if not report.sent:
        raise NothingSent(
            f"no row of {', '.join(str(file) for file in files)} is a valid {kind} event: see the "
            "reasons above, and --map for other columns"
        )


def _print(report: ProduceReport, dry: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(report), ensure_ascii=False))
        return
    for fault in report.faults[:_SHOWN_FAULTS]:
        click.echo(f"{fault.file}:{fault.line}: {fault.reason}", err=True)
    if report.bad > _SHOWN_FAULTS:
        click.echo(f"… and {report.bad - _SHOWN_FAULTS} more bad rows", err=True)
    click.echo(f"{report.sent} events {'are valid' if dry else 'sent'}, {report.bad} rows are bad.")
