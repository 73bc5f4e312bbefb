"""Words of a text: normal forms, plurals, compounds, Chinese."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.search.lexical_text import (
    MAX_TOKEN_CHARS,
    lexical_tokens,
    normalise_query,
    singular,
    spelled_tokens,
)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("  Red   SHOES\n", "red shoes"),
        ("ＵＳＢ－Ｃ　数据线", "usb-c 数据线"),
        ("Straße", "strasse"),
        ("ﬁne", "fine"),
        ("", ""),
    ],
)
def test_queries_that_differ_in_width_case_or_blanks_share_a_form(text: str, normal: str) -> None:
    """A query's normal form is NFKC, casefolded and single-blanked."""
    assert normalise_query(text) == normal


@given(st.text())
def test_the_normal_form_of_a_normal_form_is_itself(text: str) -> None:
    """Normalising twice changes nothing more."""
    once = normalise_query(text)
    assert normalise_query(once) == once


@given(st.text())
def test_tokens_hold_no_blank_quote_or_capital(text: str) -> None:
    """No token can break out of a quoted search expression or be split at a blank."""
    for token in lexical_tokens(text):
        assert token
        assert len(token) <= MAX_TOKEN_CHARS
        assert not any(character.isspace() or character in "\"'*():^\x00" for character in token)


@pytest.mark.parametrize(
    ("word", "one"),
    [
        ("shoes", "shoe"),
        ("dresses", "dress"),
        ("boxes", "box"),
        ("watches", "watch"),
        ("batteries", "battery"),
        ("ties", "tie"),
        ("mens", "men"),
        ("glass", "glass"),
        ("tennis", "tennis"),
        ("gas", "gas"),
        ("3ds", "3ds"),
        ("手机", "手机"),
    ],
)
def test_english_plurals_become_singular(word: str, one: str) -> None:
    """The S-stemmer joins plural and singular and leaves other words alone."""
    assert singular(word) == one


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("USB-C", ["usb-c", "usb", "c"]),
        ("iPhone15", ["iphone15", "iphone", "15"]),
        ("1.75 inch", ["1.75", "inch"]),
        ("Men's", ["men"]),
        ("C++ AT&T", ["c++", "at&t", "at", "t"]),
        ("👍 !!!", []),
    ],
)
def test_latin_and_number_runs_stay_whole_before_their_parts(
    text: str, expected: list[str]
) -> None:
    """A compound is one token, followed by its parts."""
    assert lexical_tokens(text) == expected


def test_chinese_is_cut_into_words_and_the_bigrams_no_word_covers() -> None:
    """Dictionary words and bigrams both stand, so that unknown names are found too."""
    tokens = lexical_tokens("苹果手机壳保护套")
    assert {"苹果", "手机", "壳", "保护套", "机壳"} <= set(tokens)


def test_mixed_text_keeps_model_numbers_apart_from_chinese() -> None:
    """A Latin model number inside Chinese text is one token, without the characters around it."""
    tokens = lexical_tokens("红米Note12Pro手机壳")
    assert {"红米", "note12pro", "手机"} <= set(tokens)


def test_full_width_text_has_the_tokens_of_half_width_text() -> None:
    """Full-width letters and digits are the same words."""
    assert lexical_tokens("ＩＰｈｏｎｅ１５　Ｐｒｏ") == lexical_tokens("iphone15 pro")


def test_a_token_remembers_how_the_text_spells_it() -> None:
    """The spelling of a matched word is the shopper's own."""
    assert spelled_tokens("Running SHOES") == {"running": "running", "shoe": "shoes"}


def test_a_very_long_run_is_cut() -> None:
    """A run without blanks gives a token of bounded length."""
    assert lexical_tokens("x" * 100_000) == ["x" * MAX_TOKEN_CHARS]
