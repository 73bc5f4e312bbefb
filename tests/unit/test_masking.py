"""What is masked: whole words, a set share, the same whenever it is drawn."""

from __future__ import annotations

import numpy as np
from tokenizers import BertWordPieceTokenizer, Tokenizer

from training.language.examples import with_specials
from training.language.masking import IGNORED, MaskRule, mask_words
from training.language.token_store import Piece
from training.language.words import word_numbers

RULE = MaskRule(mask_id=4, vocabulary=100)
CHINESE = "我喜欢这双红色的运动鞋因为质量非常好"


def _tokenizer(text: str) -> Tokenizer:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(text), "run", "##ning"]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
    return BertWordPieceTokenizer(vocabulary, lowercase=True)._tokenizer


def test_chinese_words_are_numbered_whole() -> None:
    """Characters of one jieba word share a number, those of another have another."""
    encoding = _tokenizer(CHINESE).encode(CHINESE, add_special_tokens=False)
    numbers = word_numbers(CHINESE, encoding)
    by_word: dict[int, str] = {}
    for number, character in zip(numbers, CHINESE, strict=True):
        by_word[number] = by_word.get(number, "") + character
    assert {"喜欢", "红色", "质量", "非常"} <= set(by_word.values())
    assert numbers == sorted(numbers)


def test_english_pieces_of_a_word_stay_together() -> None:
    """A word and its pieces share a number, beside Chinese words too."""
    text = "running 质量 run"
    numbers = word_numbers(text, _tokenizer(CHINESE).encode(text, add_special_tokens=False))
    assert numbers == [1, 1, 2, 2, 3]


def test_whole_word_masking_masks_whole_words() -> None:
    """Over many draws a word is asked for whole or not at all, and masked whole."""
    encoding = _tokenizer(CHINESE).encode(CHINESE, add_special_tokens=False)
    words = np.array(word_numbers(CHINESE, encoding))
    ids = np.array(encoding.ids)
    seen = 0
    for seed in range(300):
        masked, labels = mask_words(ids, words, RULE, np.random.default_rng(seed))
        for word in np.unique(words):
            tokens = words == word
            asked = labels[tokens] != IGNORED
            assert asked.all() or not asked.any()
            hidden = masked[tokens] == RULE.mask_id
            assert hidden.all() or not hidden.any()
            seen += int(asked.sum() > 1)
    assert seen > 50


def test_shares_are_those_of_bert() -> None:
    """15 % are asked for; of these 80 % are hidden, 10 % random, 10 % as they were."""
    ids = np.arange(10, 90).repeat(5)
    words = np.arange(1, len(ids) + 1)
    rule = MaskRule(mask_id=4, vocabulary=1_000_000)
    asked = hidden = kept = 0
    for seed in range(60):
        masked, labels = mask_words(ids, words, rule, np.random.default_rng(seed))
        chosen = labels != IGNORED
        assert (labels[chosen] == ids[chosen]).all()
        assert (masked[~chosen] == ids[~chosen]).all()
        asked += int(chosen.sum())
        hidden += int((masked[chosen] == rule.mask_id).sum())
        kept += int((masked[chosen] == ids[chosen]).sum())
    assert abs(asked / (60 * len(ids)) - 0.15) < 0.002
    assert abs(hidden / asked - 0.8) < 0.02
    assert abs(kept / asked - 0.1) < 0.02


def test_special_tokens_are_never_masked() -> None:
    """[CLS] and [SEP] are word 0; a text of nothing else is left as it is."""

    class Specials:
        cls_token_id, sep_token_id = 2, 3

    piece = Piece(np.array([7, 8], dtype=np.uint32), np.array([1, 2], dtype=np.uint16))
    ids, words = with_specials(piece, piece, tokenizer=Specials())
    assert ids.tolist() == [2, 7, 8, 3, 7, 8, 3]
    assert words.tolist() == [0, 1, 2, 0, 3, 4, 0]
    for seed in range(50):
        masked, labels = mask_words(ids, words, RULE, np.random.default_rng(seed))
        assert (labels[words == 0] == IGNORED).all()
        assert (masked[words == 0] == ids[words == 0]).all()
        assert (labels != IGNORED).any()
    alone = np.array([2, 3])
    masked, labels = mask_words(alone, np.zeros(2, dtype=np.int64), RULE, np.random.default_rng(0))
    assert (masked == alone).all()
    assert (labels == IGNORED).all()
