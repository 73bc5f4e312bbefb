"""`shopstream train search`: the trunk learns which product answers which search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from worker.commands.finetune_options import finetune_options, show_retrieval, take_options
from worker.commands.training_options import log_to_stderr, training_options

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("search")
@click.option("--samples", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Folder of `shopstream samples export`; wants --products too.")  # fmt: skip
@click.option("--products", type=_FILE, help="A line a product, fields of Product.")
@click.option("--pairs", type=_FILE,
              help='Lines {"search", "purchase"}, optional "negatives": […].')  # fmt: skip
@click.option("--position-bias", "eta", type=click.FloatRange(0, 2), default=1.0, show_default=True,
              help="Place k is looked at with the chance (1/k)^this; 0: no weights.")  # fmt: skip
@click.option("--test-share", type=click.FloatRange(0.01, 0.9), default=0.2, show_default=True,
              help="Of the samples, the newest.")  # fmt: skip
@click.option("--temperature", type=click.FloatRange(0.005, 1), default=0.05, show_default=True)
@finetune_options
@training_options
def command(
    samples: Path | None,
    products: Path | None,
    pairs: Path | None,
    eta: float,
    test_share: float,
    temperature: float,
    as_json: bool,
    **values: Any,
) -> None:
    """Fine-tune the trunk so that a search finds what is then bought.

    L = L_MLM + ALPHA * L_task; L_task: the bought product against the others of the batch and
    against what was shown and not bought, weighted against position and popularity bias. The result
    is a folder for SHOPSTREAM_MODEL or `releases`. An interrupted run goes on when the same command
    is given again.

    \b
    shopstream train search --samples samples/ --products products.jsonl --out trunks/search
    shopstream train search --pairs pairs.jsonl --alpha 2 --lora-rank 8 --out trunks/search
    """
    if (samples is None) == (pairs is None):
        raise click.UsageError("give either --samples with --products, or --pairs")
    if samples is not None and products is None:
        raise click.UsageError("--samples hold ids of products: give their texts with --products")
    from training.tasks.sources import PairSource, pair_file, search_samples
    from training.tasks.train_retrieval import train_retrieval

    log_to_stderr()
    options = take_options(values)
    source: PairSource
    if pairs is not None:
        source, data = pair_file(pairs), [pairs]
    else:
        assert samples is not None
        assert products is not None
        source = search_samples(samples, products, eta=eta, test_share=test_share)
        data = [samples / "search", products]
    result = train_retrieval(source, options, data, temperature=temperature)
    show_retrieval(result, as_json)
