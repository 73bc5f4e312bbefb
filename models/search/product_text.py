"""What the trunk encodes of a product."""

from __future__ import annotations

import re
from itertools import islice

# The trunk reads a short title filled up to this many words (nDCG@10 .593; title alone .588, with
# 64 tokens of description .579) and no more than this of a long one.
MIN_ENCODED_WORDS = 20
MAX_ENCODED_WORDS = 64
_HAN_OR_WORD = re.compile("[\u3400-\u9fff]{1,2}|[^\\s\u3400-\u9fff]+")  # two characters make a word


def product_text(title: str, description: str = "", category: str = "", brand: str = "") -> str:
    """Return what the trunk encodes of a product: its title; a short one is filled up.

    Brand (unless the title names it), category and the first words of the description follow, until
    there are `MIN_ENCODED_WORDS`.
    """
    parts = [_head(title, MAX_ENCODED_WORDS)]
    room = MIN_ENCODED_WORDS - _words(title)
    known = "" if brand.casefold() in title.casefold() else brand
    for text in (known, category, description):
        head = _head(text, room)
        if head:
            parts.append(head)
            room -= _words(head)
    return ". ".join(parts)


def _words(text: str) -> int:
    return sum(1 for _ in _HAN_OR_WORD.finditer(text))


def _head(text: str, words: int) -> str:
    """Return the text up to the end of its word of this number."""
    if words <= 0:
        return ""
    ends = [word.end() for word in islice(_HAN_OR_WORD.finditer(text), words)]
    return text[: ends[-1]].strip() if ends else ""
