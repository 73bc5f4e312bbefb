"""Search and answers are judged as the worker ranks them, with known figures on planted data."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from models.product_index import ProductIndex
from models.search.product_text import product_text
from models.text.null_encoder import NullEncoder
from models.trec import read_run
from tests.support.tiny_trunk import write_tiny_trunk
from training.data.rows import ReadReport, UnreadableData
from training.evaluation.evaluate_answers import evaluate_answers, rank_candidates, read_questions
from training.evaluation.evaluate_search import (
    build_index,
    evaluate_search,
    rank_queries,
    read_catalogue,
    read_queries,
)
from worker.commands import main, shopstream
from worker.events.event import Product
from worker.pipeline.product_vectors import decode_product_vector, encode_product_vector
from worker.store.contract import Version

TITLES = {"p1": "red shoe", "p2": "blue shoe", "p3": "green lamp", "p4": "红色 跑鞋"}


def write_lines(path: Path, rows: list[object]) -> Path:
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    products = [{"product_id": i, "title": t, "price": 9.5} for i, t in TITLES.items()]
    hidden = {"product_id": "p5", "title": "red shoe", "available": False}
    write_lines(tmp_path / "p.jsonl", [*products, hidden, {"title": "no id"}])
    queries = [{"query_id": "q1", "query": "red shoe"}, {"query_id": "q2", "query": "跑鞋"}]
    write_lines(tmp_path / "q.jsonl", [*queries, {"query_id": "q3"}])
    write_lines(tmp_path / "qrels", ["q1 0 p1 3", "q1 0 p2 1", "q2 0 p4 1", "q9 0 p3 0"])
    return tmp_path


def test_search_figures_of_a_planted_shop(shop: Path) -> None:
    """What is relevant comes first, so every metric is 1; what was skipped is counted."""
    skipped = ReadReport()
    report = evaluate_search(
        NullEncoder(32),
        read_catalogue(shop / "p.jsonl", skipped),
        read_queries(shop / "q.jsonl", skipped),
        {"q1": {"p1": 3.0, "p2": 1.0}, "q2": {"p4": 1.0}, "q9": {"p3": 0.0}},
        [2],
    )
    assert report.metrics["ndcg@2"].value == pytest.approx(1.0)
    assert report.metrics["recall@2"].value == pytest.approx(1.0)
    assert report.metrics["mrr@2"].cases == 2
    assert (report.products, report.queries, report.judged_queries) == (5, 2, 2)
    assert [hit[0] for hit in report.run["q1"]] == ["p1", "p2"]
    assert sum(skipped.skipped.values()) == 2


def test_search_ranks_as_the_worker_does(shop: Path) -> None:
    """The same hits with the same scores as an index fed by the worker's product-vectors topic."""
    trunk = NullEncoder(32)
    worker_index = ProductIndex(32)
    for number, (product_id, title) in enumerate(TITLES.items()):
        product = Product(
            event_id=str(number),
            occurred_at=datetime(2025, 1, 1, tzinfo=UTC),
            product_id=product_id,
            title=title,
        )
        vector = trunk.encode(trunk.tokenize([product_text(title)], "passage")).vectors[0]
        value = encode_product_vector(product, Version(number, "e"), vector, trunk.release)
        worker_index.apply([decode_product_vector(product_id.encode(), value, 32).product])
    index = build_index(trunk, read_catalogue(shop / "p.jsonl", ReadReport()))
    queries = {"a": "red shoe", "b": "green", "c": "红色"}
    run = rank_queries(trunk, index, queries, 10)
    for query_id, query in queries.items():
        vector = trunk.encode(trunk.tokenize([query], "query")).vectors
        hits = worker_index.search([query], vector, 10)[0]
        assert run[query_id] == [(hit.product_id, hit.score) for hit in hits]


def test_answers_figures_by_hand(tmp_path: Path) -> None:
    """MAP, MRR and P@1 are those of the ranking that the answerer gives."""
    rows: list[object] = [
        {
            "question": "is the jacket waterproof",
            "candidates": ["made of oak", "the jacket is waterproof", "waterproof lamp"],
            "relevance": [0, 2, 1],
        },
        {
            "question": "which battery does the radio take",
            "candidates": ["the radio takes a battery of nine volts", "a red scarf"],
            "relevance": [0, 1],
        },
        {"question": "nothing answers", "candidates": ["x"], "relevance": [0]},
        {"question": "broken", "candidates": ["x"], "relevance": [0, 1]},
    ]
    skipped = ReadReport()
    questions = read_questions(write_lines(tmp_path / "questions.jsonl", rows), skipped)
    trunk = NullEncoder(32)
    report = evaluate_answers(trunk, questions)
    first, second, _ = (
        [place for place, _ in ranked] for ranked in rank_candidates(trunk, questions)
    )
    assert first == [1, 2, 0]
    assert second == [0, 1]
    assert report.metrics["map"].value == pytest.approx((1 + 0.5) / 2)
    assert report.metrics["mrr"].value == pytest.approx((1 + 0.5) / 2)
    assert report.metrics["p@1"].value == pytest.approx(0.5)
    assert (report.questions, report.answerable, report.metrics["ndcg"].cases) == (3, 2, 2)
    assert sum(skipped.skipped.values()) == 1


def test_questions_without_any_answer_are_told(tmp_path: Path) -> None:
    """A file of which no candidate is relevant, or without questions, ends with a sentence."""
    none = write_lines(
        tmp_path / "none.jsonl", [{"question": "a", "candidates": ["b"], "relevance": [0]}]
    )
    with pytest.raises(UnreadableData, match="no question has a relevant candidate"):
        evaluate_answers(NullEncoder(32), read_questions(none, ReadReport()))
    with pytest.raises(UnreadableData, match="holds no judged questions"):
        read_questions(write_lines(tmp_path / "empty.jsonl", [{"a": 1}]), ReadReport())


def run_command(*arguments: object) -> Result:
    return CliRunner().invoke(shopstream, [str(one) for one in arguments])


def test_evaluate_search_writes_a_trec_run(shop: Path) -> None:
    """The command prints one JSON document and a run that the TREC reader takes."""
    trunk = write_tiny_trunk(shop / "trunk")
    arguments = [
        "evaluate",
        "search",
        "--products",
        shop / "p.jsonl",
        "--queries",
        shop / "q.jsonl",
    ]
    arguments += ["--qrels", shop / "qrels", "--run-out", shop / "run", "--release", trunk]
    done = run_command(*arguments, "--k", 3, "--json")
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert figures["metrics"]["ndcg@3"].keys() == {"value", "low", "high", "cases"}
    assert figures["skipped"] == {
        "a query without query_id or query": 1,
        "a product without product_id or title": 1,
    }
    assert read_run(shop / "run")["q1"][0][0] == "p1"


@pytest.mark.parametrize(
    "arguments",
    [
        "pretrain -h", "train -h", "train search -h", "train answers -h", "train pairs -h",
        "train sentiment -h", "evaluate -h", "evaluate search -h", "evaluate answers -h",
        "evaluate sentiment -h",
    ],
)  # fmt: skip
def test_every_command_explains_itself(arguments: str) -> None:
    """Each command has a help text, and it names every option with a sentence or a default."""
    done = run_command(*arguments.split())
    assert done.exit_code == 0
    assert "Usage:" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train search --out x", "give either --samples with --products, or --pairs"),
        ("train search --out x --samples .", "give their texts with --products"),
        ("train answers --out x", "give either --samples or --questions"),
        ("train sentiment --out x", "give --reviews"),
        ("train sentiment --out x --samples . --alpha 2", "add --finetune-trunk"),
        ("train pairs --out x --pairs pyproject.toml --alpha -1", "a number of 0 or more, or inf"),
        ("pretrain mlm --out x", "Missing option '--texts'"),
        ("pretrain gpt --out x --texts pyproject.toml", "'gpt' is not one of"),
    ],
)
def test_wrong_usage_is_told(arguments: str, message: str) -> None:
    """What a command cannot make sense of ends with status 2 and what to give."""
    done = run_command(*arguments.split())
    assert done.exit_code == 2
    assert message in done.output


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("qrels", "q1 0 p1\n", "3 fields where 4 are expected"),
        ("qrels", "q7 0 p1 1\n", "do the ids in the queries and in the qrels agree?"),
        ("q.jsonl", "{}\n", "holds no queries"),
        ("p.jsonl", "{}\n", "holds none with a product_id and a title"),
    ],
)
def test_bad_input_is_one_sentence(
    shop: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str,
    message: str,
) -> None:
    """Broken files end with status 1 and one sentence on standard error."""
    (shop / name).write_text(content, encoding="utf-8")
    trunk = write_tiny_trunk(shop / "trunk")
    arguments = ["--products", shop / "p.jsonl", "--queries", shop / "q.jsonl"]
    arguments += ["--qrels", shop / "qrels", "--model", trunk]
    command = ["shopstream", "evaluate", "search", *map(str, arguments)]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""
