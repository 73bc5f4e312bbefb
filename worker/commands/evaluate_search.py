"""`shopstream evaluate search`: the worker's ranking against judgments, in TREC's formats."""

from __future__ import annotations

from pathlib import Path

import click

from worker.commands.evaluation_options import load_trunk, show_metrics, trunk_options
from worker.commands.training_options import json_document, log_to_stderr

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("search")
@click.option("--products", type=_FILE, required=True, help="A line a product, fields of Product.")
@click.option("--queries", type=_FILE, required=True, help='Lines {"query_id", "query"}.')
@click.option("--qrels", type=_FILE, required=True, help="Lines `query_id 0 product_id gain`.")
@click.option("--run-out", type=click.Path(dir_okay=False, path_type=Path),
              help="Write the ranking as a TREC run, for trec_eval or ir_measures.")  # fmt: skip
@click.option("--k", "cutoffs", type=click.IntRange(1, 1000), multiple=True, default=(10, 100),
              show_default=True, help="Cutoff; may stand several times.")  # fmt: skip
@trunk_options
def command(
    products: Path,
    queries: Path,
    qrels: Path,
    run_out: Path | None,
    cutoffs: tuple[int, ...],
    model: str,
    release: Path | None,
    max_tokens: int,
    threads: int,
    as_json: bool,
) -> None:
    """Rank all products for each query, as the worker does, and compare with the judgments.

    nDCG with linear gains, recall, MRR, MAP, precision and hit rate, each with its 95 % interval
    (bootstrap over queries). A relevant product is one with a gain above 0; queries without any are
    left out of the means, judged queries that find nothing count 0.
    """
    from models.trec import read_qrels, write_run
    from training.data.rows import ReadReport
    from training.evaluation.evaluate_search import evaluate_search, read_catalogue, read_queries

    log_to_stderr()
    skipped = ReadReport()
    judgments, asked = read_qrels(qrels), read_queries(queries, skipped)
    trunk = load_trunk(model, release, max_tokens, threads)
    catalogue = read_catalogue(products, skipped)
    report = evaluate_search(trunk, catalogue, asked, judgments, cutoffs)
    for line in skipped.sentences():
        click.echo(line, err=True)
    if run_out is not None:
        write_run(run_out, report.run, tag=trunk.release.replace(" ", "_"))
    if as_json:
        figures = {
            "trunk": trunk.release,
            "protocol": "full catalogue, words and meaning fused",
            "products": report.products,
            "queries": report.queries,
            "judged_queries": report.judged_queries,
            "judged_unknown_products": report.judged_unknown_products,
            "skipped": dict(skipped.skipped),
            "metrics": report.metrics,
        }
        click.echo(json_document(figures))
        return
    click.echo(
        f"{trunk.release}: {report.judged_queries:,} judged queries over all "
        f"{report.products:,} products, words and meaning fused"
    )
    show_metrics(report.metrics)
