"""`shopstream train pairs`: the classic recipe, a BERT or GPT on search → purchase pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from worker.commands.finetune_options import finetune_options, show_retrieval, take_options
from worker.commands.training_options import log_to_stderr, training_options

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("pairs")
@click.option("--pairs", type=_FILE, required=True, help='Lines {"search": …, "purchase": …}.')
@click.option("--test", type=_FILE, help="Pairs to test on; default: a fifth of --pairs.")
@click.option("--hold-out", type=click.Choice(["search", "pair"]), default="search",
              show_default=True, help="What the held-out fifth shares nothing of with the rest:"
              " no search of it was seen, or only not with this purchase.")  # fmt: skip
@click.option("--objective", type=click.Choice(["mlm", "clm"]), default="mlm", show_default=True,
              help="A masked model (BERT), or a causal one (GPT).")  # fmt: skip
@click.option("--temperature", type=click.FloatRange(0.005, 1), default=0.05, show_default=True)
@finetune_options
@training_options
def command(
    pairs: Path,
    test: Path | None,
    hold_out: Literal["search", "pair"],
    objective: Literal["mlm", "clm"],
    temperature: float,
    as_json: bool,
    **values: Any,
) -> None:
    """Fine-tune a masked or causal language model on search -> purchase pairs, any language.

    L = L_pretrain + ALPHA * L_task: L_pretrain is MLM (or CLM) on "search [SEP] purchase", L_task
    finds the purchase among the others of the batch. Reported: accuracy and recall@k of held-out
    searches, ranked over all products of the pairs.

    \b
    shopstream train pairs --pairs pairs.jsonl --model bert-base-chinese --whole-word \\
        --epochs 3 --out models/pairs-zh
    """
    from training.tasks.sources import pair_file
    from training.tasks.train_retrieval import train_retrieval

    log_to_stderr()
    options = take_options(values)
    source = pair_file(pairs, test, hold_out=hold_out)
    data = [pairs, test] if test is not None else [pairs]
    result = train_retrieval(
        source, options, data, objective=objective, joined_texts=True, temperature=temperature
    )
    show_retrieval(result, as_json)
