"""Where pairs come from: the worker's samples, files of pairs, files of judged questions."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from models.search.product_text import product_text
from training.data.position_bias import looked_at_first, position_weight
from training.data.reviews import Part, part_of
from training.data.rows import ReadReport, Row, UnreadableData, read_rows
from training.dataset import SampleFolder
from training.tasks.pairs import Pair

HoldOut = Literal["search", "pair"]

_QUERY_FIELDS = ("search", "query")
_PASSAGE_FIELDS = ("purchase", "product", "positive", "passage", "title")


@dataclass(frozen=True, slots=True)
class PairSource:
    """Passages by key, pairs to learn from, pairs to test on; pairs may be read again and again."""

    passages: dict[str, str]
    train: Callable[[], Iterable[Pair]]
    test: Callable[[], Iterable[Pair]]
    report: ReadReport = field(default_factory=ReadReport)
    split: str = ""  # how train and test were parted, for the report


def read_products(path: Path, report: ReadReport) -> dict[str, str]:
    """Return product id -> the text the worker encodes of it; raises UnreadableData."""
    products: dict[str, str] = {}
    for place, row in read_rows(path, report):
        if not row.get("product_id") or not str(row.get("title") or "").strip():
            report.skip("a product without product_id or title", place)
            continue
        texts = [_text(row.get(name)) for name in ("title", "description", "category", "brand")]
        products[str(row["product_id"])] = product_text(*texts)
    if not products:
        raise UnreadableData(f"{path} holds no product with a product_id and a title")
    return products


def search_samples(folder: Path, products: Path, *, eta: float, test_share: float) -> PairSource:
    """Return searches with what was bought, shown-and-not-bought as negatives, split by time.

    Args:
        eta: how steeply the places of a result list are looked at less (`position_weight`).
    """
    report = ReadReport()
    passages = read_products(products, report)
    split = SampleFolder(folder, "search").time_split(test_share)
    _merge(report, split.samples.report)

    def pair(row: Row) -> Pair | None:
        return search_pair(row, passages, eta=eta)

    unknown = sum(pair(row) is None for row in split.train()) + sum(
        pair(row) is None for row in split.test()
    )
    if unknown:
        report.skip(f"a product that {products.name} does not hold", count=unknown)
    return PairSource(
        passages,
        lambda: filter(None, map(pair, split.train())),
        lambda: filter(None, map(pair, split.test())),
        report,
        f"by time: the newest {test_share:.0%} of the samples are the test",
    )


def search_pair(row: Row, passages: Container[str], *, eta: float) -> Pair | None:
    """Return a search sample as a pair of product ids; None where the product is no passage."""
    shown, product = row["shown"] or [], row["positive"]
    if product not in passages:
        return None
    negatives = looked_at_first(shown, product, row["negatives"] or [])
    return Pair(row["query"], product, tuple(negatives), position_weight(shown, product, eta=eta))


def answer_samples(folder: Path, *, test_share: float) -> PairSource:
    """Return questions with the passage that answered them, split by time."""
    split = SampleFolder(folder, "answer").time_split(test_share)
    report = split.samples.report

    def pair(row: Row) -> Pair:
        return Pair(row["question"], row["answer"])

    passages = {row["answer"]: row["answer"] for row in split.samples.rows()}
    return PairSource(
        passages,
        lambda: map(pair, split.train()),
        lambda: map(pair, split.test()),
        report,
        f"by time: the newest {test_share:.0%} of the samples are the test",
    )


def pair_file(path: Path, test: Path | None = None, *, hold_out: HoldOut = "search") -> PairSource:
    """Return `{"search": …, "purchase": …}` rows, `negatives` optional; the same pair counts once.

    Args:
        test: pairs to test on; without it a fifth is held out by a hash.
        hold_out: of what the hash is taken: `search` (no tested search was ever seen) or `pair`.

    Raises:
        UnreadableData: there are no pairs, or none is left on one side.
    """
    report = ReadReport()
    pairs = list(dict.fromkeys(_pairs(path, report)))
    if not pairs:
        raise UnreadableData(
            f'{path} holds no pairs; a line is {{"search": "…", "purchase": "…"}}{_because(report)}'
        )
    if test is not None:
        tested = list(dict.fromkeys(_pairs(test, report)))
        known = {(pair.query, pair.positive) for pair in tested}
        train = [pair for pair in pairs if (pair.query, pair.positive) not in known]
        if len(train) < len(pairs):
            report.skip("a pair that is also tested", count=len(pairs) - len(train))
        split = f"the test is {test.name}"
    else:
        tested = [pair for pair in pairs if _part_of_pair(pair, hold_out) == "test"]
        train = [pair for pair in pairs if _part_of_pair(pair, hold_out) != "test"]
        split = f"a fifth by a hash of the {hold_out} is the test"
    if not train:
        raise UnreadableData(f"no pair of {path} is left to learn from: give more pairs")
    texts = (text for pair in (*pairs, *tested) for text in (pair.positive, *pair.negatives))
    return PairSource({t: t for t in texts}, lambda: train, lambda: tested, report, split)


def question_file(path: Path) -> PairSource:
    """Return questions with candidates and their relevance: `{"question", "candidates", …}`.

    What is relevant is to be found, the rest are hard negatives; a fifth is held out by a hash.
    """
    report = ReadReport()
    pairs: list[Pair] = []
    for place, row in read_rows(path, report):
        judged = judged_candidates(row)
        if judged is None:
            report.skip("no question, or not as many relevances as candidates", place)
            continue
        question, candidates = judged
        wrong = tuple(text for text, relevance in candidates if relevance <= 0)
        right = [text for text, relevance in candidates if relevance > 0]
        if not right:
            report.skip("a question without a relevant candidate", place)
        pairs += [Pair(question, text, wrong) for text in right]
    train = [pair for pair in pairs if part_of(pair.query) != "test"]
    tested = [pair for pair in pairs if part_of(pair.query) == "test"]
    if not train:
        raise UnreadableData(f"{path} holds no questions to learn from{_because(report)}")
    texts = (text for pair in pairs for text in (pair.positive, *pair.negatives))
    split = "a fifth by a hash of the question is the test"
    return PairSource({t: t for t in texts}, lambda: train, lambda: tested, report, split)


def judged_candidates(row: Row) -> tuple[str, list[tuple[str, float]]] | None:
    """Return a row's question and its candidates with relevance; None where it has none."""
    question, candidates = _text(row.get("question")), row.get("candidates")
    relevance = row.get("relevance")
    if not question or not isinstance(candidates, list) or not isinstance(relevance, list):
        return None
    if len(candidates) != len(relevance) or not candidates:
        return None
    try:
        gains = [float(gain) for gain in relevance]
    except (TypeError, ValueError):
        return None
    return question, list(zip(map(_text, candidates), gains, strict=True))


def _part_of_pair(pair: Pair, hold_out: HoldOut) -> Part:
    return part_of(pair.query if hold_out == "search" else f"{pair.query}\n{pair.positive}")


def _pairs(path: Path, report: ReadReport) -> Iterator[Pair]:
    for place, row in read_rows(path, report):
        query, bought = _first(row, _QUERY_FIELDS), _first(row, _PASSAGE_FIELDS)
        texts = [_text(text) for text in (bought if isinstance(bought, list) else [bought])]
        if not _text(query) or not any(texts):
            report.skip("no search or no purchase", place)
            continue
        negatives = row.get("negatives")
        wrong = tuple(map(_text, negatives)) if isinstance(negatives, list) else ()
        yield from (Pair(_text(query), text, wrong) for text in texts if text)


def _first(row: Row, names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name)), None)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return "" if value is None else " ".join(str(value).split())


def _because(report: ReadReport) -> str:
    lines = report.sentences()
    return f" ({'; '.join(lines)})" if lines else ""


def _merge(report: ReadReport, other: ReadReport) -> None:
    report.rows += other.rows
    report.skipped.update(other.skipped)
    report.places.update(other.places)
