"""`shopstream evaluate recommendations`: full ranking on public or own interactions."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.commands.progress import ProgressLine
from worker.commands.training_options import json_document, log_to_stderr

if TYPE_CHECKING:
    from training.data.interactions import Interactions
    from training.data.splits import Split
    from training.evaluation.evaluate_recommendations import Evaluation, Scorer
    from training.evaluation.recommendation_report import Part
    from training.evaluation.scorer import RecommenderScorer

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_BASELINES = ("popularity", "personal-frequency", "item-knn", "markov")


@click.command("recommendations")
@click.option(
    "--interactions",
    "file",
    type=_FILE,
    required=True,
    help="Lines `user item [timestamp]` in time order (plain or .gz), CSV, TSV, JSONL or Parquet.",
)
@click.option(
    "--protocol",
    type=click.Choice(["leave-one-out", "time-split"]),
    default="leave-one-out",
    show_default=True,
)
@click.option(
    "--release",
    "releases",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Recommender folder, or a release that holds one; may stand several times.",
)
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    type=click.Choice(_BASELINES),
    help="Trained on the training part; may stand several times. Without --release and"
    " --baseline: popularity.",
)
@click.option(
    "--remove-seen/--keep-seen",
    "remove_seen",
    default=None,
    help="Items of the user's history leave the ranking or stay. Default: removed for"
    " leave-one-out, kept for time-split (baskets repeat).",
)
@click.option("--k", type=click.IntRange(1, 1000), default=10, show_default=True)
@click.option(
    "--part",
    type=click.Choice(["test", "validation"]),
    default="test",
    show_default=True,
    help="Choose settings on validation, report the test once.",
)
@click.option(
    "--test-from",
    type=click.DateTime(),
    help="time-split: the test begins here (UTC); default: the newest share.",
)
@click.option(
    "--test-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="time-split: the newest share of interactions.",
)
@click.option("--user-column", help="Default: guessed from the usual names; so are the others.")
@click.option("--item-column")
@click.option("--timestamp-column")
@click.option(
    "--products", type=_FILE, help="JSONL of products, for a recommender that reads their texts."
)
@click.option(
    "--model",
    default="",
    help="Trunk that encodes --products; empty: the release's own, or packaged MiniLM.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    file: Path,
    protocol: str,
    releases: tuple[Path, ...],
    baselines: tuple[str, ...],
    remove_seen: bool | None,
    k: int,
    part: Part,
    test_from: datetime | None,
    test_share: float,
    user_column: str | None,
    item_column: str | None,
    timestamp_column: str | None,
    products: Path | None,
    model: str,
    as_json: bool,
) -> None:  # fmt: skip
    """HR, recall, nDCG, MRR, coverage and popularity bias at K, each with its 95 % interval.

    Every item of the catalogue is ranked for every case; equal scores count against the model.
    Repeat purchases are shown apart where there are any. The figures of a --release hold only if
    it was trained without the cases it is asked.
    """
    from training.data.interactions import read_interactions
    from training.evaluation.recommendation_report import case_notes, protocol_sentence

    log_to_stderr()
    interactions = read_interactions(
        file, user_column=user_column, item_column=item_column, timestamp_column=timestamp_column
    )
    for line in interactions.report.sentences():
        click.echo(line, err=True)
    split = _split(interactions, protocol, part, test_from, test_share)
    remove = protocol == "leave-one-out" if remove_seen is None else remove_seen
    cases = split.test if part == "test" else split.validation
    scorers = _scorers(split, releases, baselines, products, model)
    evaluations = [_evaluate(scorer, split, part, k, remove) for scorer in scorers]
    sentence = protocol_sentence(split, part, remove, k)
    notes = case_notes(split, cases, remove)
    if as_json:
        click.echo(_document(interactions, split, sentence, notes, evaluations, remove, k))
    else:
        _print(sentence, notes, evaluations, k)


def _split(
    interactions: Interactions, protocol: str, part: str, test_from: datetime | None, share: float
) -> Split:
    from training.data.splits import last_fraction_ms, leave_one_out, time_split

    if protocol == "leave-one-out":
        return leave_one_out(interactions)
    begin_ms = (
        last_fraction_ms(interactions, share)
        if test_from is None
        else round(test_from.replace(tzinfo=UTC).timestamp() * 1000)
    )
    if part == "test":
        return time_split(interactions, begin_ms)
    assert interactions.timestamps_ms is not None
    before = interactions.take((interactions.timestamps_ms < begin_ms).nonzero()[0])
    return time_split(interactions, begin_ms, last_fraction_ms(before, share))


def _scorers(
    split: Split,
    releases: tuple[Path, ...],
    baselines: tuple[str, ...],
    products: Path | None,
    model: str,
) -> list[Scorer]:
    from training.evaluation.baselines import BASELINES

    scorers: list[Scorer] = [_load(release, split.train, products, model) for release in releases]
    for name in baselines or (() if releases else ("popularity",)):
        scorers.append(BASELINES[name](split.train))
    return scorers


def _load(
    release: Path, train: Interactions, products: Path | None, model: str
) -> RecommenderScorer:
    from models.learnt.files import load_recommender, require_trunk
    from training.evaluation.scorer import (
        RecommenderScorer,
        item_text_vectors,
        recommender_folder,
    )

    folder, texts = recommender_folder(release), None
    if products is not None:
        from models.text_encoder import TextEncoder

        trunk = TextEncoder.load(model or (str(release) if folder != release else ""))
        require_trunk(load_recommender(folder), trunk, folder)
        texts = item_text_vectors(products, train, trunk)
    scorer = RecommenderScorer.load(release, train.item_ids, texts)
    if scorer.unknown_items:
        click.echo(
            f"{scorer.name} was not trained on {scorer.unknown_items:,} of the items", err=True
        )
    return scorer


def _evaluate(scorer: Scorer, split: Split, part: str, k: int, remove_seen: bool) -> Evaluation:
    from training.evaluation.evaluate_recommendations import evaluate

    cases = split.test if part == "test" else split.validation
    with ProgressLine(f"cases ranked by {scorer.name}") as line:
        return evaluate(
            scorer,
            cases,
            split.train,
            k=k,
            remove_seen=remove_seen,
            progress=lambda done: line.update(done, len(cases)),
        )


def _document(
    interactions: Interactions,
    split: Split,
    sentence: str,
    notes: list[str],
    evaluations: list[Evaluation],
    remove_seen: bool,
    k: int,
) -> str:
    from training.evaluation.recommendation_report import as_document, differences

    return json_document(
        {
            "interactions": interactions.report,
            "protocol": split.protocol,
            "protocol_in_words": sentence,
            "seen_items": "removed" if remove_seen else "kept",
            "k": k,
            "users": interactions.user_count,
            "items": interactions.item_count,
            "train_interactions": len(split.train),
            "notes": notes,
            "systems": [as_document(evaluation) for evaluation in evaluations],
            "ndcg_differences": [
                {"system": name, "minus": first, "difference": difference}
                for name, first, difference in differences(evaluations, k)
            ],
        }
    )


def _print(sentence: str, notes: list[str], evaluations: list[Evaluation], k: int) -> None:
    from training.evaluation.recommendation_report import as_lines, differences

    click.echo(sentence)
    for note in notes:
        click.echo(f"- {note}")
    for evaluation in evaluations:
        click.echo()
        for line in as_lines(evaluation):
            click.echo(line)
    for name, first, difference in differences(evaluations, k):
        click.echo(f"\nndcg@{k} of {name} minus {first}, paired: {difference}")
