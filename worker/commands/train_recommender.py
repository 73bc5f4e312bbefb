"""`shopstream train recommender`: from interactions or samples to a recommender's folder."""

from __future__ import annotations

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.commands.recommender_options import network_options, take, training_options
from worker.commands.training_options import json_document, log_to_stderr

if TYPE_CHECKING:
    from training.recommender.sequences.event_sequences import EventSequences

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command("recommender")
@click.option("--interactions", type=_FILE,
              help="Lines `user item [timestamp]` in time order (plain or .gz), CSV, TSV, JSONL or"
              " Parquet.")  # fmt: skip
@click.option("--samples", type=_FOLDER,
              help="Folder of `shopstream samples export`: searches, purchases, returns and"
              " reviews.")  # fmt: skip
@click.option("--products", type=_FILE,
              help="Product fields, a line each: items are then known by their text"
              " too.")  # fmt: skip
@click.option("--model", default="", help="Text trunk: folder or hub id; empty: packaged MiniLM.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True,
              help="The recommender's folder; its folder `checkpoint` holds where a killed"
              " training was.")  # fmt: skip
@click.option("--protocol", type=click.Choice(["production", "leave-one-out", "time-split"]),
              default="production", show_default=True,
              help="What is kept from training for a test: nothing, each shopper's last purchase,"
              " or all from --test-from on.")  # fmt: skip
@click.option("--test-from", type=click.DateTime(), help="UTC; default: the newest share.")
@click.option("--test-share", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              default=0.2, show_default=True)  # fmt: skip
@click.option("--validation/--no-validation", "validate", default=True, show_default=True,
              help="Without: what would choose the epoch is trained on too, for all the epochs, and"
              " the last weights are kept; where an earlier training has shown how many"
              " epochs.")  # fmt: skip
@click.option("--remove-seen/--keep-seen", "remove_seen", default=None,
              help="Whether bought items are candidates when the epoch is chosen. Default: removed"
              " where no shopper buys a thing twice.")  # fmt: skip
@click.option("--user-column", help="Default: guessed from the usual names; so are the others.")
@click.option("--item-column")
@click.option("--timestamp-column")
@network_options
@training_options
@click.option("--resume", is_flag=True, help="Go on from the checkpoint of the same command.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    interactions: Path | None,
    samples: Path | None,
    products: Path | None,
    model: str,
    out: Path,
    resume: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Train the recommender: a causal transformer over what each shopper did.

    Every item is a candidate (no sampled ranking) when the epoch is chosen and when figures are
    printed. `accelerate launch -m worker.commands train recommender …` runs it on several GPUs.
    """
    from accelerate import Accelerator

    from models.learnt.files import save_recommender
    from training.recommender.job import SplitOptions, figures, lineage, shape, split
    from training.recommender.train import train_recommender

    if (interactions is None) == (samples is None):
        raise click.UsageError("give either --interactions or --samples")
    log_to_stderr()
    _set_threads(values.pop("threads"))
    columns = {name: values.pop(name) for name in _COLUMNS}
    sequences, trunk = _read(interactions, samples, products, model, columns)
    test_from = values.pop("test_from")
    parts = split(
        sequences,
        SplitOptions(
            protocol=values.pop("protocol"),
            test_from_s=None if test_from is None else test_from.replace(tzinfo=UTC).timestamp(),
            test_share=values.pop("test_share"),
            validate=values.pop("validate"),
            remove_seen=values.pop("remove_seen"),
        ),
    )
    visits = values.pop("target") == "visit"
    options, loss, fields = take(values, visits=visits)
    config = shape(parts.train, **fields)
    accelerator = Accelerator(cpu=values.pop("cpu"))
    with _Bar(accelerator.is_main_process) as bar:
        trained = train_recommender(
            config, parts.train, parts.validation, options, loss, out / "checkpoint",
            resume=resume, accelerator=accelerator, report=bar.show,
        )  # fmt: skip
    if not accelerator.is_main_process:
        return
    found = figures(trained, parts)
    source = interactions or samples
    assert source is not None
    data = [source.name, *([] if products is None else [products.name])]
    told = lineage(config, options, loss, found, data) | {
        "trunk": trunk,
        "made": datetime.now(UTC).date().isoformat(),
        "command": shlex.join(["shopstream", *sys.argv[1:]]),
    }
    save_recommender(out, trained.network.cpu(), list(sequences.item_ids), told)
    if as_json:
        click.echo(json_document(told))
        return
    for name in ("validation", "test"):
        if name in found:
            row = found[name]
            click.echo(f"{name}: NDCG@10 {row['ndcg@10']:.4f}, HR@10 {row['hr@10']:.4f}, "
                       f"{row['cases']:,} purchases among {config.items:,} items")  # fmt: skip
    click.echo(f"The recommender stands in {out}.")


_COLUMNS = ("user_column", "item_column", "timestamp_column")


def _read(
    interactions: Path | None,
    samples: Path | None,
    products: Path | None,
    model: str,
    columns: dict[str, str | None],
) -> tuple[EventSequences, str | None]:
    """Return the events, and the trunk's release where they have texts; tells what was skipped."""
    from models.text_encoder import TextEncoder
    from training.data.interactions import read_interactions
    from training.recommender.job import add_texts, read_samples, sequences_of

    trunk = TextEncoder.load(model) if products is not None or samples is not None else None
    if samples is not None:
        sequences, sentences = read_samples(samples, products, trunk)
    else:
        assert interactions is not None
        read = read_interactions(interactions, **columns)
        sequences, sentences = sequences_of(read), read.report.sentences()
        if trunk is not None:
            sequences = add_texts(sequences, products, [], trunk)
    for sentence in sentences:
        click.echo(sentence, err=True)
    click.echo(f"{sequences.shoppers:,} shoppers, {len(sequences.inputs):,} events, "
               f"{sequences.items:,} items", err=True)  # fmt: skip
    return sequences, None if trunk is None else trunk.release


def _set_threads(threads: int) -> None:
    import torch

    if threads:
        torch.set_num_threads(threads)


class _Bar:
    """Progress of an epoch on standard error, in place on a terminal, nothing elsewhere."""

    def __init__(self, wanted: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(),
            TextColumn("{task.completed}/{task.total}"), console=console, transient=True,
            disable=not (wanted and console.is_terminal),
        )  # fmt: skip
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def show(self, progress: Any) -> None:
        """Show where the training stands (training.recommender.train.Progress)."""
        best = f", best NDCG@10 {progress.best:.4f}" if progress.best >= 0 else ""
        text = f"epoch {progress.epoch + 1}, loss {progress.loss:.3f}{best}"
        self._bar.update(
            self._task, description=text, completed=progress.batch, total=progress.batches
        )

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
