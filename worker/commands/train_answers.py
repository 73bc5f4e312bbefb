"""`shopstream train answers`: the trunk learns which passage answers which question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from worker.commands.finetune_options import finetune_options, show_retrieval, take_options
from worker.commands.training_options import log_to_stderr, training_options


@click.command("answers")
@click.option("--samples", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Folder of `shopstream samples export`.")  # fmt: skip
@click.option("--questions", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help='Lines {"question", "candidates": […], "relevance": […]}.')  # fmt: skip
@click.option("--test-share", type=click.FloatRange(0.01, 0.9), default=0.2, show_default=True,
              help="Of the samples, the newest.")  # fmt: skip
@click.option("--temperature", type=click.FloatRange(0.005, 1), default=0.05, show_default=True)
@finetune_options
@training_options
def command(
    samples: Path | None,
    questions: Path | None,
    test_share: float,
    temperature: float,
    as_json: bool,
    **values: Any,
) -> None:
    """Fine-tune the trunk so that a question finds the passage that answers it.

    L = L_MLM + ALPHA * L_task; L_task: the passage against the others of the batch and against
    candidates that do not answer. The same trunk serves search: measure both after it.
    """
    if (samples is None) == (questions is None):
        raise click.UsageError("give either --samples or --questions")
    from training.tasks.sources import answer_samples, question_file
    from training.tasks.train_retrieval import train_retrieval

    log_to_stderr()
    options = take_options(values)
    if questions is not None:
        source, data = question_file(questions), [questions]
    else:
        assert samples is not None
        source, data = answer_samples(samples, test_share=test_share), [samples / "answer"]
    result = train_retrieval(source, options, data, temperature=temperature)
    show_retrieval(result, as_json)
