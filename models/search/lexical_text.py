"""Text as the lexical index sees it: normal forms, words, Chinese segmentation.

Chinese runs are cut by jieba (search mode: long words and the words inside them), and every bigram
that is not a word is kept too, because a dictionary misses the newest product names; neither cut
wins everywhere, both together do. Latin and number runs stay whole ("iPhone15", "USB-C", "10x10").
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

import rjieba

_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA = "\u3040-\u30ff"
_WORD = f"[^\\W_{_HAN}{_KANA}]"
# Chinese or kana, or letters and digits held together by single joiners: usb-c, 1.75, at&t, men's
_RUN = re.compile(f"([{_HAN}{_KANA}]+)|({_WORD}+(?:['’&./+-]{_WORD}+)*(?:\\+\\+)?)")
_JOINER = re.compile(r"[&./+-]")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_LETTERS_OR_NUMBER = re.compile(r"[^\W\d_]+|\d+")
_APOSTROPHE = re.compile(r"['’]")
_BLANKS = re.compile(r"\s+")
_STOP_TEXT = """

a an and any are as at be been but by can could did do doe for from get had ha have how i if in
is it its me my of on or so than that the their them then there these they this those to too up
wa we were what when where which who why will with would you your
的 了 吗 呢 是 在 有 我 你 您 这 那 这个 那个 什么 怎么 怎么样 可以 能 会 吧 啊 和 与 请问 请
问 多少 哪 哪里 几 个 用 要
"""
# words that say nothing about a thing; search keeps them (they cost .003 nDCG@10 when dropped)
STOP_WORDS = frozenset(_STOP_TEXT.split())
MAX_TOKEN_CHARS = 64  # longer runs are no words; their head is kept


def normalise_query(text: str) -> str:
    """Return the form under which a query's results are shared: NFKC, casefolded, single blanks."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _BLANKS.sub(" ", folded).strip()


def lexical_tokens(text: str, most: int | None = None) -> list[str]:
    """Return the words of a text in order, singular and casefolded, in any language.

    A compound is followed by its parts ("usb-c", "usb", "c"; "iphone15", "iphone", "15"), so that
    either spelling finds the other; decimals stay whole ("1.75").

    Args:
        most: stop after this many.
    """
    tokens: list[str] = []
    for run in _RUN.finditer(normalise_query(text)):
        tokens.extend(_tokens(run[1], run[2]))
        if most is not None and len(tokens) >= most:
            return tokens[:most]
    return tokens


def spelled_tokens(text: str) -> dict[str, str]:
    """Return each distinct word of a text with how the text spells it: "shoe" -> "shoes"."""
    spelled: dict[str, str] = {}
    for run in _RUN.finditer(normalise_query(text)):
        for spelling, token in _forms(run[1], run[2]):
            spelled.setdefault(token, spelling)
    return spelled


@lru_cache(maxsize=100_000)
def _tokens(unspaced: str | None, word: str | None) -> tuple[str, ...]:
    return tuple(token for _, token in _forms(unspaced, word))


def _forms(unspaced: str | None, word: str | None) -> tuple[tuple[str, str], ...]:
    """Return the (spelling, token) pairs of one run."""
    if unspaced is not None:
        return tuple((part, part) for part in _segment(unspaced))
    return _word_forms(word or "")


def _word_forms(word: str) -> tuple[tuple[str, str], ...]:
    plain = _APOSTROPHE.sub("", word)[:MAX_TOKEN_CHARS]
    whole = (word, singular(plain))
    if plain.isalpha() or _NUMBER.fullmatch(plain):
        return (whole,)
    parts = [part for part in _JOINER.split(plain) if part]
    if len(parts) == 1:
        parts = _LETTERS_OR_NUMBER.findall(plain)
    if len(parts) == 1:
        return (whole,)
    return (whole, *((part, singular(part)) for part in parts))


def singular(word: str) -> str:
    """Take the English plural off a casefolded word; other words come back as they are.

    The rules of Harman's S-stemmer (How effective is suffixing?, JASIS 1991), with the sibilant
    plurals ("dresses", "boxes") that product titles are full of.
    """
    if len(word) < 4 or not word.isascii() or not word.isalpha() or not word.endswith("s"):
        return word
    if word.endswith(("us", "ss", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y" if len(word) > 4 else word[:-1]
    if word.endswith(("sses", "xes", "ches", "shes", "zzes")):
        return word[:-2]
    return word[:-1]


def _segment(run: str) -> list[str]:
    words = rjieba.cut_for_search(run)
    known = set(words)
    bigrams = (run[i : i + 2] for i in range(len(run) - 1))
    return [*words, *(bigram for bigram in bigrams if bigram not in known)]
