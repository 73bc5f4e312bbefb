"""Texts → token stores: what each objective reads, with a part of the texts held out.

The part follows from the text itself (`training.data.reviews.part_of`), so the same text never
stands on both sides, whatever file it comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.reviews import part_of
from training.data.rows import UnreadableData
from training.data.texts import sentences
from training.language.language_model import Objective
from training.language.token_store import TokenStore, TokenWriter
from training.language.words import token_numbers, word_numbers

_TEXTS_AT_ONCE = 256
# A piece of fewer tokens has nothing to guess from.
_LEAST_TOKENS = 4


@dataclass(frozen=True, slots=True)
class ReadTexts:
    """Tokenized texts: to learn from, and held out (may be empty)."""

    train: TokenStore
    held_out: TokenStore


def read_into_stores(
    texts: Iterable[str],
    tokenizer: Any,
    objective: Objective,
    folder: Path,
    *,
    max_tokens: int,
    whole_words: bool,
) -> ReadTexts:
    """Tokenize texts into two stores below `folder`; long texts become several pieces.

    Raises:
        UnreadableData: there is not enough text for the objective.
    """
    cutter = _Cutter(tokenizer, objective, max_tokens, whole_words)
    names = ("train", "held-out")
    with ExitStack() as stack:
        writers = {name: stack.enter_context(TokenWriter(folder / name)) for name in names}
        for document, text in enumerate(texts):
            name = "held-out" if part_of(text) == "validation" else "train"
            for ids, words in cutter.pieces(text):
                writers[name].add(ids, words, document)
    read = ReadTexts(*(TokenStore(folder / name) for name in names))
    _refuse_too_little(read.train, objective)
    return read


class _Cutter:
    """Cuts one text into pieces of token ids and word numbers."""

    def __init__(
        self, tokenizer: Any, objective: Objective, max_tokens: int, whole_words: bool
    ) -> None:
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        self._end_id = tokenizer.eos_token_id
        self._objective = objective
        self._most = max_tokens - 2  # room for [CLS] and [SEP]
        self._whole_words = whole_words

    def pieces(self, text: str) -> Iterator[tuple[list[int], list[int]]]:
        if self._objective == "clm":
            ids = self._backend.encode(text, add_special_tokens=False).ids
            yield [*ids, self._end_id], []
        elif self._objective == "mlm-nsp":
            for sentence in sentences(text):
                yield from self._cut(sentence)
        else:
            yield from self._cut(text)

    def _cut(self, text: str) -> Iterator[tuple[list[int], list[int]]]:
        encoding = self._backend.encode(text, add_special_tokens=False)
        ids = encoding.ids
        words = word_numbers(text, encoding) if self._whole_words else list(token_numbers(len(ids)))
        for start in range(0, len(ids), self._most):
            part = ids[start : start + self._most]
            if len(part) < _LEAST_TOKENS and start:
                break
            first = words[start] - 1
            yield part, [number - first for number in words[start : start + self._most]]


def _refuse_too_little(store: TokenStore, objective: Objective) -> None:
    if not len(store):
        raise UnreadableData("the files hold no text to learn from; see what was skipped and why")
    if objective != "mlm-nsp":
        return
    documents = store.documents
    if not (documents[1:] == documents[:-1]).any() or documents[0] == documents[-1]:
        raise UnreadableData(
            "mlm-nsp needs texts of two sentences and more, and at least two texts: give longer "
            "texts, or use mlm"
        )
