"""How well candidates that answer are ranked above those that do not, by the worker's answerer."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.answerer import Answerer, Passage
from models.metrics import Estimate, evaluate_ranking
from models.text.cosine_scale import measure_scales
from models.text_encoder import TextTrunk
from training.data.rows import ReadReport, UnreadableData, read_rows
from training.tasks.sources import judged_candidates

logger = logging.getLogger(__name__)

_QUESTIONS_AT_ONCE = 64
_ALL = 1_000_000  # MAP, MRR and nDCG look at all candidates


@dataclass(frozen=True, slots=True)
class JudgedQuestion:
    """A question with its candidates and how relevant each is (above 0: it answers)."""

    question: str
    candidates: tuple[str, ...]
    relevance: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class AnswersReport:
    """Metrics by name with their intervals; questions without a relevant candidate are left out."""

    metrics: dict[str, Estimate]
    questions: int
    answerable: int
    candidates: int


def read_questions(path: Path, report: ReadReport) -> list[JudgedQuestion]:
    """Read `{"question", "candidates": […], "relevance": […]}` rows; raises UnreadableData."""
    questions: list[JudgedQuestion] = []
    for place, row in read_rows(path, report):
        judged = judged_candidates(row)
        if judged is None:
            report.skip("no question, or not as many relevances as candidates", place)
            continue
        question, candidates = judged
        texts, gains = zip(*candidates, strict=True)
        questions.append(JudgedQuestion(question, texts, gains))
    if not questions:
        raise UnreadableData(
            f'{path} holds no judged questions; a line is {{"question": "…", "candidates": ["…"], '
            '"relevance": [1]}'
        )
    return questions


def rank_candidates(
    trunk: TextTrunk, questions: Sequence[JudgedQuestion]
) -> Iterator[list[tuple[int, float]]]:
    """Yield for each question its candidates' places with their confidence, best first."""
    answerer = Answerer(0.0, *measure_scales(trunk))
    for start in range(0, len(questions), _QUESTIONS_AT_ONCE):
        chunk = questions[start : start + _QUESTIONS_AT_ONCE]
        asked = trunk.encode(trunk.tokenize([one.question for one in chunk], "query")).vectors
        texts = list(dict.fromkeys(text for one in chunk for text in one.candidates))
        found = trunk.encode(trunk.tokenize(texts, "passage")).vectors
        place = {text: row for row, text in enumerate(texts)}
        for one, vector in zip(chunk, asked, strict=True):
            passages = [
                Passage("product", str(number), text) for number, text in enumerate(one.candidates)
            ]
            vectors = found[[place[text] for text in one.candidates]]
            sure = answerer.confidences(one.question, vector, passages, vectors)
            yield sorted(enumerate(sure), key=lambda pair: (-pair[1], pair[0]))
        logger.info("%d of %d questions ranked", start + len(chunk), len(questions))


def evaluate_answers(trunk: TextTrunk, questions: Sequence[JudgedQuestion]) -> AnswersReport:
    """Return MAP, MRR, P@1 and nDCG over each question's candidates, with 95 % intervals.

    Raises:
        UnreadableData: no question has a relevant candidate.
    """
    run: dict[str, list[str]] = {}
    qrels: dict[str, dict[str, float]] = {}
    for number, (one, ranked) in enumerate(
        zip(questions, rank_candidates(trunk, questions), strict=True)
    ):
        run[str(number)] = [str(place) for place, _ in ranked]
        qrels[str(number)] = {str(place): gain for place, gain in enumerate(one.relevance)}
    answerable = sum(any(gain > 0 for gain in one.relevance) for one in questions)
    if not answerable:
        raise UnreadableData("no question has a relevant candidate (relevance above 0)")
    whole, first = evaluate_ranking(run, qrels, _ALL), evaluate_ranking(run, qrels, 1)
    metrics = {
        "map": whole[f"map@{_ALL}"],
        "mrr": whole[f"mrr@{_ALL}"],
        "p@1": first["precision@1"],
        "ndcg": whole[f"ndcg@{_ALL}"],
        "ndcg@10": evaluate_ranking(run, qrels, 10)["ndcg@10"],
    }
    candidates = sum(len(one.candidates) for one in questions)
    return AnswersReport(metrics, len(questions), answerable, candidates)
