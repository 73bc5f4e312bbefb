"""`shopstream record`: topics to a folder, for replays."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import get_args

import click

from worker.commands.progress import ProgressLine
from worker.commands.replay_options import moment_ms
from worker.replay.recordings.files import FileFormat
from worker.replay.recordings.record import RecordRange, parse_offsets, record
from worker.settings import Settings


@click.command("record")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to fill."
)
@click.option(
    "--from", "from_time", help="Events recorded by Kafka at this time or later (RFC 3339)."
)
@click.option("--until", "until_time", help="Events that Kafka got before this time.")
@click.option(
    "--from-offset", "offsets", multiple=True, metavar="TOPIC:PARTITION:OFFSET",
    help="Begin a partition at this offset; may be repeated.",
)  # fmt: skip
@click.option(
    "--format", "file_format", type=click.Choice(get_args(FileFormat)), default="parquet",
    show_default=True, help="Of the files.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    out: Path,
    from_time: str | None,
    until_time: str | None,
    offsets: tuple[str, ...],
    file_format: FileFormat,
    as_json: bool,
) -> None:
    """Record the event topics, and what workers wrote about them, into a folder.

    Every record keeps its offset, time, key and bytes. No consumer group takes part and nothing is
    committed. Run again into the same folder, it goes on where the folder ends. What Kafka had
    dropped already (retention, compaction) is reported as gaps.
    """
    chosen = RecordRange(moment_ms(from_time), moment_ms(until_time), parse_offsets(offsets))
    with ProgressLine("records") as progress:
        facts = asyncio.run(
            record(
                Settings(), out, chosen=chosen, file_format=file_format, progress=progress.update
            )
        )
    if as_json:
        click.echo(facts.model_dump_json())
        return
    for topic, partitions in facts.topics.items():
        click.echo(f"{topic}\t{sum(one.records for one in partitions.values())}")
    if facts.offsets_missing:
        first = facts.gaps[0]
        click.echo(
            f"{facts.offsets_missing:,} offsets were missing already, first {first.topic}:"
            f"{first.partition} {first.first}-{first.last}",
            err=True,
        )
