"""`shopstream evaluate answers`: the worker's answerer ranks candidates of judged questions."""

from __future__ import annotations

from pathlib import Path

import click

from worker.commands.evaluation_options import load_trunk, show_metrics, trunk_options
from worker.commands.training_options import json_document, log_to_stderr


@click.command("answers")
@click.option(
    "--questions",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help='Lines {"question", "candidates": […], "relevance": […]}.',
)
@trunk_options
def command(
    questions: Path,
    model: str,
    release: Path | None,
    max_tokens: int,
    threads: int,
    as_json: bool,
) -> None:
    """Rank each question's candidates by the answerer's confidence, as the worker does.

    MAP, MRR, P@1 and nDCG over all candidates, each with its 95 % interval (bootstrap over
    questions). A candidate of relevance above 0 answers; questions without any are left out.
    """
    from training.data.rows import ReadReport
    from training.evaluation.evaluate_answers import evaluate_answers, read_questions

    log_to_stderr()
    skipped = ReadReport()
    judged = read_questions(questions, skipped)
    trunk = load_trunk(model, release, max_tokens, threads)
    report = evaluate_answers(trunk, judged)
    for line in skipped.sentences():
        click.echo(line, err=True)
    if as_json:
        figures = {
            "trunk": trunk.release,
            "questions": report.questions,
            "answerable": report.answerable,
            "candidates": report.candidates,
            "skipped": dict(skipped.skipped),
            "metrics": report.metrics,
        }
        click.echo(json_document(figures))
        return
    click.echo(
        f"{trunk.release}: {report.answerable:,} questions with an answer among "
        f"{report.candidates:,} candidates"
    )
    show_metrics(report.metrics)
