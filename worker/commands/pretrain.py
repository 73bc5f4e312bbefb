"""`shopstream pretrain`: a language model learns the shop's own texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from training.processes import is_first
from worker.commands.training_options import (
    json_document,
    log_to_stderr,
    loop_options,
    training_options,
)


@click.command("pretrain")
@click.argument("objective", type=click.Choice(["mlm", "mlm-nsp", "clm"]))
@click.option(
    "--texts",
    multiple=True,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Plain text, JSONL, CSV, TSV (also .gz) or Parquet; may stand several times.",
)
@click.argument(
    "more_texts", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--text-field",
    "fields",
    multiple=True,
    default=("text",),
    show_default=True,
    help="Column of the text; several are joined.",
)
@click.option("--model", default="", help="Folder or hub id; empty: the packaged MiniLM.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--from-scratch", is_flag=True, help="An untrained model, a tokenizer of the texts.")
@click.option("--vocab-size", type=click.IntRange(min=128), default=8_000, show_default=True,
              help="With --from-scratch.")  # fmt: skip
@click.option("--layers", type=click.IntRange(min=1), default=4, show_default=True,
              help="With --from-scratch.")  # fmt: skip
@click.option("--width", type=click.IntRange(min=8), default=256, show_default=True,
              help="With --from-scratch.")  # fmt: skip
@click.option("--heads", type=click.IntRange(min=1), default=4, show_default=True,
              help="With --from-scratch.")  # fmt: skip
@click.option("--max-tokens", type=click.IntRange(16, 2048), default=128, show_default=True)
@click.option("--whole-word", "whole_words", is_flag=True,
              help="Mask whole words, Chinese ones by jieba.")  # fmt: skip
@click.option("--mask-rate", type=click.FloatRange(0.01, 0.9), default=0.15, show_default=True)
@click.option("--head-steps", type=click.IntRange(min=1), default=300, show_default=True,
              help="For the language head of a checkpoint that has none.")  # fmt: skip
@click.option("--name", default="", help="Name of the model; empty: the folder's.")
@training_options
def command(
    texts: tuple[Path, ...],
    more_texts: tuple[Path, ...],
    layers: int,
    width: int,
    heads: int,
    as_json: bool,
    **values: Any,
) -> None:
    """Train a language model on texts: a masked one (mlm), with next sentences, or a causal one.

    mlm: L = L_MLM. mlm-nsp: L = L_MLM + L_NSP. clm: L = L_CLM. The result is a folder that
    AutoModel loads; one of mlm and mlm-nsp can be the worker's SHOPSTREAM_MODEL. A tenth of the
    texts, chosen by a hash, is held out for the loss that is reported. An interrupted run goes on
    when the same command is given again.

    \b
    shopstream pretrain mlm --texts reviews.jsonl.gz --text-field reviewText --out trunks/shop
    shopstream pretrain clm --from-scratch --texts products.csv --out models/shop-gpt
    """
    from training.language.checkpoints import Shape
    from training.pretrain import PretrainOptions, pretrain

    log_to_stderr()
    loop = loop_options(values)
    options = PretrainOptions(
        texts=(*texts, *more_texts), loop=loop, shape=Shape(layers, width, heads), **values
    )
    result = pretrain(options)
    if not is_first():
        return
    if as_json:
        click.echo(json_document(_figures(result)))
        return
    click.echo(f"{result.texts.texts:,} texts, {result.train_tokens:,} tokens to learn from")
    for name, value in (
        ("held-out loss before", result.before),
        ("held-out loss", result.after),
        ("perplexity", f"{result.perplexity:.2f}" if result.perplexity else None),
        ("next sentence, accuracy", result.follow_accuracy),
    ):
        if value is not None:
            click.echo(f"{name:23} {value}")
    click.echo(f"The model stands in {result.out}.")


def _figures(result: Any) -> dict[str, Any]:
    return {
        "out": result.out,
        "objective": result.objective,
        "texts": result.texts.texts,
        "skipped": dict(result.texts.skipped),
        "tokens": result.train_tokens,
        "steps": result.steps,
        "losses": result.losses,
        "held_out_loss_before": result.before,
        "held_out_loss": result.after,
        "perplexity": result.perplexity,
        "nsp_accuracy": result.follow_accuracy,
    }
