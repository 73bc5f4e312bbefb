"""Answers: which passage is chosen, when there is none, what the sieve before the encoder keeps."""

from __future__ import annotations

import numpy as np

from models.answerer import (
    Answerer,
    Passage,
    nearest_in_words,
    product_passages,
    review_passages,
)

WIDTH = 4


def unit(place: int) -> np.ndarray:
    vector = np.zeros(WIDTH, dtype=np.float32)
    vector[place] = 1.0
    return vector


def test_best_passage_is_quoted_with_its_source() -> None:
    """The passage nearest in meaning and words is the answer, as it stands."""
    passages = [
        Passage("review", "r1", "The blend smells of wood."),
        Passage("product", "p1", "The handle is beech wood."),
    ]
    vectors = np.stack([unit(1), unit(0)])
    answer = Answerer(0.5).answer("What wood is the handle?", unit(0), passages, vectors)
    assert answer.answered
    assert answer.text == "The handle is beech wood."
    assert answer.source is passages[1]


def test_below_the_threshold_there_is_no_answer() -> None:
    """A passage that has nothing to do with the question is no answer, and neither is none."""
    passages = [Passage("review", "r1", "Arrived on Tuesday.")]
    answer = Answerer(0.5).answer("How heavy is it?", unit(0), passages, unit(1)[None])
    assert not answer.answered
    assert answer.text is None
    assert answer.confidence < 0.5
    nothing = Answerer(0.0).answer("How heavy is it?", unit(0), [], np.zeros((0, WIDTH)))
    assert not nothing.answered


def test_sieve_keeps_what_holds_the_words_of_the_question_in_order() -> None:
    """Of too many passages those stay that hold most of what is asked, in their order."""
    passages = [Passage("review", str(n), f"Nothing of note, number {n}.") for n in range(20)]
    passages[17] = Passage("review", "17", "The battery lasts two days.")
    passages[9] = Passage("review", "9", "A battery is in the box.")
    kept = nearest_in_words("How long does the battery last, two days?", passages, 4)
    assert [passage.id for passage in kept] == ["0", "1", "9", "17"]
    assert nearest_in_words("battery", passages[:3], 4) == passages[:3]


def test_sieve_reads_chinese() -> None:
    """Chinese questions are cut into words, so that the sieve finds theirs."""
    passages = [Passage("review", str(n), "物流很快，包装也好。") for n in range(5)]
    passages.append(Passage("review", "5", "电池续航有两天。"))
    kept = nearest_in_words("电池能用多久？", passages, 2)
    assert [passage.id for passage in kept] == ["0", "5"]


def test_product_and_review_become_sentences() -> None:
    """Facts are named in the product's language; a review is cut into its sentences."""
    texts = [p.text for p in product_passages("p", "茶杯", "双层玻璃。", brand="清溪", price=39.9)]
    assert texts == ["茶杯", "品牌：清溪", "价格：39.9", "双层玻璃。"]
    assert [p.text for p in review_passages("r", "Solid. Would buy again!")] == [
        "Solid.",
        "Would buy again!",
    ]
