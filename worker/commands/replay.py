"""`shopstream replay`: recorded events through the code that runs live."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from pathlib import Path
from typing import Any, cast

import click

from worker.commands.progress import ProgressLine
from worker.commands.replay_options import duration_s, moment_ms
from worker.replay.recordings.faults import OnError
from worker.replay.recordings.public import parse_files
from worker.replay.recordings.record import RecordRange, parse_offsets
from worker.replay.report.page import write_report
from worker.replay.report.summary import summary_lines
from worker.replay.run import run_replay
from worker.replay.sources import Order, ReplayJob
from worker.settings import Settings


@click.command("replay")
@click.option(
    "--events", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder that `shopstream record` wrote.",
)  # fmt: skip
@click.option("--from-topic", is_flag=True, help="Read the topics now; commits nothing.")
@click.option(
    "--file", "files", multiple=True, metavar="KIND=FILE",
    help="A shop's own file (JSONL, CSV, TSV, Parquet); may be repeated.",
)  # fmt: skip
@click.option("--map", "maps", multiple=True, metavar="KIND=MAP.toml", help="Map of such files.")
@click.option("--topic-from", help="With --from-topic: events recorded at this time or later.")
@click.option(
    "--from-offset", "offsets", multiple=True, metavar="TOPIC:PARTITION:OFFSET",
    help="With --from-topic: begin a partition there.",
)  # fmt: skip
@click.option(
    "--keep", type=click.Path(file_okay=False, path_type=Path),
    help="With --from-topic or --file: keep the recording in this folder.",
)  # fmt: skip
@click.option(
    "--release", "releases", multiple=True, metavar="[NAME=]RELEASE",
    help="What to compare: a release's folder or id, `current`, `popularity` or `content`; the "
    "first is the baseline. With --order batches: what to ask beside the live run, where it is "
    "named (NAME=RELEASE); a bare folder says where a release of the batches is to be had.",
)  # fmt: skip
@click.option(
    "--variant", "variants", multiple=True, metavar="NAME:setting=value,…",
    help="Also compare the current settings with these changed.",
)  # fmt: skip
@click.option(
    "--order", type=click.Choice(["auto", "batches", "time"]), default="auto", show_default=True,
    help="Follow the live batches (same bytes), or take events in the order of their time.",
)  # fmt: skip
@click.option("--verify", is_flag=True, help="Compare with the live results in Redis.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Multiple of real time; 0: full speed.",
)
@click.option("--judge-from", help="Judge events from this time on; earlier ones warm the state.")
@click.option("--until", help="Stop at this time of events.")
@click.option(
    "--warm-up-share", type=click.FloatRange(0, 1, max_open=True), default=0.2, show_default=True,
    help="Share of the span that only warms the state, unless --judge-from is given.",
)  # fmt: skip
@click.option(
    "--window", help="How long after a list purchases count: 90s, 15m, 36h, 7d. Default: the "
    "attribution window, or a tenth of a shorter log.",
)  # fmt: skip
@click.option(
    "--k", type=click.IntRange(1, 200), default=10, show_default=True, help="List length."
)
@click.option(
    "--redis-prefix", help="Keep state and results in Redis under this prefix, not in memory."
)
@click.option(
    "--journal", type=click.Path(dir_okay=False, path_type=Path),
    help="Keep what models said in this file; cut short and run again, the replay goes on from it.",
)  # fmt: skip
@click.option(
    "--on-error", type=click.Choice(["stop", "skip"]), default="stop", show_default=True,
    help="At corrupt files, missing events or batches.",
)  # fmt: skip
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), help="Write an HTML report."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(**options: Any) -> None:
    """Run recorded events through the live pipeline, and compare releases on them.

    Without --release the live run is repeated batch by batch, gives the same bytes, and is judged.
    With --release (may be repeated) all of them see the same events, one at a time in order of
    time, and are judged by what shoppers bought, starred and asked afterwards; with --order batches
    they are asked beside the live run, about its own batches.
    """
    job = ReplayJob(
        events=options["events"],
        from_topic=options["from_topic"],
        files=parse_files(options["files"], options["maps"]),
        topic_range=RecordRange(
            moment_ms(options["topic_from"]), None, parse_offsets(options["offsets"])
        ),
        keep=options["keep"],
        releases=options["releases"],
        variants=options["variants"],
        order=cast(Order, options["order"]),
        speed=options["speed"],
        judge_from_ms=moment_ms(options["judge_from"]),
        until_ms=moment_ms(options["until"]),
        warm_up_share=options["warm_up_share"],
        window_s=duration_s(options["window"]),
        k=options["k"],
        verify=options["verify"],
        redis_prefix=options["redis_prefix"],
        journal=options["journal"],
        on_error=cast(OnError, options["on_error"]),
        command=shlex.join(["shopstream", *sys.argv[1:]]),
    )
    with ProgressLine("events") as progress:
        document = asyncio.run(run_replay(Settings(), job, progress.update))
    if options["report"] is not None:
        write_report(document, options["report"])
    if options["as_json"]:
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    for line in summary_lines(document):
        click.echo(line)
