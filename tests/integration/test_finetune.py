"""A trunk learns the shop's tasks from planted data, and what comes out can serve."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from models.release import MANIFEST
from models.sample import SearchSample
from models.text.sentiment import load
from models.text_encoder import TextEncoder
from tests.support.planted_texts import COLOURS, THINGS, write_pairs, write_reviews
from training.data.reviews import read_reviews
from training.data.rows import UnreadableData
from training.finetune import FinetuneOptions
from training.language.checkpoints import Shape
from training.language.language_model import Objective
from training.loop.options import LoopOptions
from training.pretrain import PretrainOptions, pretrain
from training.tasks.sources import pair_file, question_file
from training.tasks.train_retrieval import RetrievalResult, train_retrieval
from training.tasks.train_sentiment import SentimentTraining
from training.tasks.train_sentiment_trunk import HEAD_FOLDER, train_sentiment_trunk
from worker.commands import shopstream
from worker.topics.sample_export import write_samples
from worker.topics.sample_set import SampleSet

LOOP = LoopOptions(steps=80, batch_rows=24, learning_rate=3e-3, threads=1, cpu=True)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl")


def small_model(
    objective: Objective, texts: Path, fields: tuple[str, ...], out: Path, steps: int = 30
) -> Path:
    """Write a language model that has seen these texts."""
    loop = replace(LOOP, steps=steps)
    shape = Shape(layers=2, width=32, heads=2)
    known = PretrainOptions(objective, (texts,), out, fields=fields, from_scratch=True)
    pretrain(replace(known, vocab_size=400, shape=shape, max_tokens=32, loop=loop))
    return out


@pytest.fixture(scope="module")
def masked(pairs: Path) -> Path:
    return small_model("mlm", pairs, ("search", "purchase"), pairs.with_name("masked"), 80)


@pytest.mark.parametrize("objective", ["mlm", "clm"])
def test_the_classic_recipe_finds_the_purchase(
    objective: Objective, pairs: Path, masked: Path, tmp_path: Path
) -> None:
    """A masked and a causal model learn search -> product far above chance, in Chinese."""
    loop = LOOP
    model = masked
    if objective == "clm":
        loop = replace(LOOP, steps=160)
        model = small_model("clm", pairs, ("search", "purchase"), tmp_path / "causal")
    options = FinetuneOptions(
        tmp_path / "out", str(model), alpha=4.0, max_tokens=32, whole_words=True, loop=loop
    )
    result = train_retrieval(
        pair_file(pairs), options, [pairs],
        objective="clm" if objective == "clm" else "mlm", joined_texts=True,
    )  # fmt: skip
    products = len(COLOURS) * len(THINGS)
    assert result.passages == products
    assert result.after["recall@5"].low > 3 * 5 / products  # chance is 5 of the products
    assert result.after["accuracy"].low > 3 / products
    assert result.gain["recall@5"].low > 0
    assert result.tuned.losses.keys() == {"loss", f"{objective}_loss", "task_loss"}
    manifest = json.loads((result.out / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["metrics"]["after"]["accuracy"]["cases"] == result.tested_queries
    assert manifest["lineage"]["options"]["alpha"] == "4.0"


def _tuned(pairs: Path, masked: Path, out: Path, alpha: float) -> RetrievalResult:
    options = FinetuneOptions(
        out=out, model=str(masked), alpha=alpha, max_tokens=32, loop=replace(LOOP, steps=60)
    )
    return train_retrieval(pair_file(pairs), options, [pairs])


def test_alpha_trades_the_language_for_the_task(pairs: Path, masked: Path, tmp_path: Path) -> None:
    """The task alone forgets the language; α = 1 learns the task and keeps it; α = 0 no task."""
    texts, both, task = (
        _tuned(pairs, masked, tmp_path / str(alpha), alpha) for alpha in (0.0, 1.0, math.inf)
    )
    assert texts.language_loss
    assert both.language_loss
    assert task.language_loss
    assert task.language_loss.value > both.language_loss.value + 0.1
    assert both.after["ndcg@10"].value > texts.after["ndcg@10"].value + 0.1
    assert task.after["ndcg@10"].value > texts.after["ndcg@10"].value + 0.1


def test_search_tuned_on_pairs_serves_better(pairs: Path, masked: Path, tmp_path: Path) -> None:
    """nDCG@10 of the worker's own ranking rises, measured by `evaluate search` before and after."""
    tuned = _tuned(pairs, masked, tmp_path / "tuned", 1.0)
    assert tuned.gain["ndcg@10"].low > 0
    products, queries, qrels = (tmp_path / name for name in ("p.jsonl", "q.jsonl", "qrels.txt"))
    rows = list(dict.fromkeys(json.loads(line)["purchase"] for line in pairs.open()))
    ids = {text: f"p{number}" for number, text in enumerate(rows)}
    products.write_text(
        "".join(json.dumps({"product_id": i, "title": t}) + "\n" for t, i in ids.items())
    )
    held_out = {pair.query: pair.positive for pair in pair_file(pairs).test()}
    asked = [(f"q{number}", query) for number, query in enumerate(held_out)]
    queries.write_text(
        "".join(json.dumps({"query_id": i, "query": query}) + "\n" for i, query in asked)
    )
    qrels.write_text("".join(f"{i} 0 {ids[held_out[query]]} 1\n" for i, query in asked))

    def ndcg(release: Path) -> float:
        run = tmp_path / "run.txt"
        arguments = ["evaluate", "search", "--products", products, "--queries", queries]
        arguments += ["--qrels", qrels, "--release", release, "--run-out", run, "--json"]
        done = CliRunner().invoke(shopstream, [str(one) for one in arguments])
        assert done.exit_code == 0, done.output
        figures = json.loads(done.stdout)
        assert figures["judged_queries"] == len(asked)
        assert len(run.read_text().splitlines()) >= len(asked)
        value: float = figures["metrics"]["ndcg@10"]["value"]
        return value

    assert ndcg(tuned.out) > ndcg(masked)


def test_the_trunk_learns_sentiment_with_a_head_that_fits(tmp_path: Path) -> None:
    """Planted reviews are told apart; the head that is saved fits the trunk it was learnt on."""
    path = write_reviews(tmp_path / "reviews.jsonl", 400)
    model = small_model("mlm", path, ("text",), tmp_path / "base")
    options = FinetuneOptions(
        out=tmp_path / "out", model=str(model), max_tokens=32, loop=replace(LOOP, steps=40)
    )
    reviews = read_reviews(path, "text", "stars")
    result = train_sentiment_trunk(reviews, options, SentimentTraining(), [path])
    assert result.report is not None
    assert result.report.accuracy.low > 0.8
    trunk = TextEncoder.load(tmp_path / "out", device="cpu", threads=1)
    head = load(tmp_path / "out" / HEAD_FOLDER)
    manifest = json.loads((tmp_path / "out" / HEAD_FOLDER / "head.json").read_text())
    assert manifest["lineage"]["trunk_weights"] == trunk.trunk_release.weights_checksum
    trunk.add_head("sentiment", head)
    tokens = trunk.tokenize(
        ["the lamp number 9 is lovely", "the tent number 8 is awful"], "passage"
    )
    good, bad = trunk.encode(tokens, {"sentiment": [0, 1]}).heads["sentiment"]
    assert (good.argmax(), bad.argmax()) == (2, 0)
    arguments = ["evaluate", "sentiment", "--reviews", str(path), "--label-field", "stars"]
    arguments += ["--release", str(tmp_path / "out"), "--held-out", "--json"]
    done = CliRunner().invoke(shopstream, arguments)
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert figures["accuracy"]["value"] == pytest.approx(result.report.accuracy.value, abs=1e-6)


def write_search_samples(pairs: Path, folder: Path) -> tuple[Path, Path]:
    """Write the pairs as the worker's samples of many days, and the products beside them."""
    bought = [json.loads(line) for line in pairs.open(encoding="utf-8")]
    titles = list(dict.fromkeys(row["purchase"] for row in bought))
    ids = {title: f"p{number}" for number, title in enumerate(titles)}
    found = SampleSet()
    for number, row in enumerate(bought):
        product = ids[row["purchase"]]
        shown = [ids[titles[(number * 7 + k) % len(titles)]] for k in range(3)] + [product]
        sample = SearchSample(
            sample_id=f"s{number}",
            occurred_at=f"2025-03-{1 + number // 10:02d}T08:00:{number % 10:02d}+00:00",
            user="anna",
            query=row["search"],
            positive=product if number % 20 else "gone",
            negatives=[item for item in shown if item != product],
            shown=shown,
            search_event_id=f"e{number}",
            label_key=f"l{number}",
        )
        found.add(sample.model_dump_json().encode())
    write_samples(found, folder / "samples")
    products = folder / "products.jsonl"
    rows = ({"product_id": i, "title": title} for title, i in ids.items())
    products.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder / "samples", products


def test_search_learns_from_the_worker_s_samples(pairs: Path, masked: Path, tmp_path: Path) -> None:
    """`train search --samples` learns from the older days, is tested on the newest, counts gaps."""
    samples, products = write_search_samples(pairs, tmp_path)
    arguments = ["train", "search", "--samples", samples, "--products", products]
    arguments += ["--model", masked, "--out", tmp_path / "out", "--steps", 50, "--cpu", "--json"]
    arguments += ["--learning-rate", 3e-3, "--threads", 1, "--max-tokens", 32, "--alpha", 2]
    done = CliRunner().invoke(shopstream, [str(one) for one in arguments])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert figures["skipped"] == {"a product that products.jsonl does not hold": 12}
    assert figures["pairs"] + figures["tested_queries"] == 240 - 12
    assert figures["split"].startswith("by time")
    assert figures["gain"]["ndcg@10"]["low"] > 0
    TextEncoder.load(tmp_path / "out", device="cpu", threads=1)


def test_answers_learn_from_candidates(masked: Path, pairs: Path, tmp_path: Path) -> None:
    """Questions with judged candidates teach which passage answers; the gain is measured."""
    path = tmp_path / "questions.jsonl"
    source = pair_file(pairs)
    found = {pair.query: pair.positive for pair in (*source.train(), *source.test())}
    texts = list(dict.fromkeys(found.values()))
    lines = [
        {"question": query, "candidates": [text, texts[number % len(texts)]], "relevance": [1, 0]}
        for number, (query, text) in enumerate(found.items())
        if text != texts[number % len(texts)]
    ]
    bad = {"question": "?", "candidates": ["a"], "relevance": []}
    path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, bad]), encoding="utf-8")
    options = FinetuneOptions(
        out=tmp_path / "out", model=str(masked), max_tokens=32, loop=replace(LOOP, steps=50)
    )
    result = train_retrieval(question_file(path), options, [path])
    assert result.gain["mrr@10"].low > 0
    assert result.skipped == {"no question, or not as many relevances as candidates": 1}


def test_pairs_that_cannot_teach_are_told(tmp_path: Path) -> None:
    """A file without pairs, or whose every pair is tested, ends with a sentence."""
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"search": "a"}\n', encoding="utf-8")
    with pytest.raises(UnreadableData, match="no search or no purchase"):
        pair_file(empty)
    one = tmp_path / "one.jsonl"
    one.write_text('{"search": "a", "purchase": "b"}\n', encoding="utf-8")
    with pytest.raises(UnreadableData, match="left to learn from"):
        pair_file(one, one)
