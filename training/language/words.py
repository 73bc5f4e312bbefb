"""Which tokens make one word: English pieces by the tokenizer, Chinese characters by jieba.

Whole-word masking for Chinese: Cui et al. 2019, "Pre-Training with Whole Word Masking for Chinese
BERT" (arXiv 1906.08101). A character of a word is too easily guessed from the other one, so that
masking single characters teaches little.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import rjieba

_HAN_RUN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")


def word_numbers(text: str, encoding: Any) -> list[int]:
    """Return for each token of a `tokenizers` encoding of `text` the number of its word, from 1.

    The tokenizer's own words stand, except in Chinese runs, which jieba cuts.
    """
    chinese = _chinese_words(text)
    numbers: list[int] = []
    before: tuple[str, int | None] | None = None
    number = 0
    for word, (start, end) in zip(encoding.word_ids, encoding.offsets, strict=True):
        while start < end and text[start].isspace():  # SentencePiece counts the blank before
            start += 1
        place = chinese.get(start)
        key = ("tokenizer", word) if place is None else ("chinese", place)
        if key != before:
            number, before = number + 1, key
        numbers.append(number)
    return numbers


def token_numbers(token_count: int) -> Sequence[int]:
    """Return numbers under which each token is a word of its own."""
    return range(1, token_count + 1)


def _chinese_words(text: str) -> dict[int, int]:
    """Return the place of each Chinese character -> the place where its word begins."""
    begins: dict[int, int] = {}
    for run in _HAN_RUN.finditer(text):
        place = run.start()
        for word in rjieba.cut(run.group()):
            begins.update(dict.fromkeys(range(place, place + len(word)), place))
            place += len(word)
    return begins
