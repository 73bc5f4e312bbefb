"""The lexical index by itself: exactness after deletes, and the guard against common words."""

from __future__ import annotations

import random
import threading

from models.search.lexical_index import LexicalDocument, LexicalIndex


def document(item_id: str, *words: str) -> LexicalDocument:
    """Return a document with these words in its title."""
    return LexicalDocument(item_id, (words, (), (), ()))


def test_scores_after_deletes_are_those_of_an_index_that_never_held_them() -> None:
    """Adding and removing thousands of documents leaves no trace in any score."""
    words = [f"w{number}" for number in range(60)]
    choose = random.Random(7)
    documents = [document(f"d{number}", *choose.choices(words, k=8)) for number in range(3_000)]
    kept = documents[::7]
    gone = [one for one in documents if one not in kept]
    used = LexicalIndex()
    for start in range(0, len(documents), 100):
        used.apply([], documents[start : start + 100])
    for start in range(0, len(gone), 31):
        used.apply(gone[start : start + 31], [])
    fresh = LexicalIndex()
    fresh.apply([], kept)
    for word in words:
        assert used.search([word, "w1"], 50) == fresh.search([word, "w1"], 50)


def test_title_words_count_more_than_words_of_the_description() -> None:
    """The same word weighs more in a title."""
    index = LexicalIndex()
    other = [document(f"x{number}", "other") for number in range(5)]
    index.apply(
        [],
        [
            LexicalDocument("title", (("tea",), ("cup",), (), ())),
            LexicalDocument("body", (("cup",), ("tea",), (), ())),
            *other,
        ],
    )
    (first, high), (second, low) = index.search(["tea"], 5)
    assert (first, second) == ("title", "body")
    assert high > low > 0


def test_english_word_forms_meet() -> None:
    """A query finds other forms of its words, also those the catalogue never spells so."""
    index = LexicalIndex()
    index.apply([], [document("a", "running", "shoe"), document("b", "towel")])
    assert [item_id for item_id, _ in index.search(["run"], 5)] == ["a"]


def test_a_common_word_adds_to_what_a_rarer_one_found_but_finds_nothing_itself() -> None:
    """Beyond the budget of ranked rows the common word only orders the finds of the rare one."""
    index = LexicalIndex(max_ranked_rows=10)
    many = [document(f"m{number}", "shoe", "sole") for number in range(50)]
    index.apply([], [*many, document("rare", "purple", "hat"), document("both", "purple", "shoe")])
    assert [item_id for item_id, _ in index.search(["purple", "shoe"], 20)] == ["both", "rare"]


def test_a_query_of_common_words_only_finds_what_holds_all_of_them() -> None:
    """Where every word is common, products must hold all words."""
    index = LexicalIndex(max_ranked_rows=5)
    shoes = [document(f"s{number}", "shoe") for number in range(20)]
    boots = [document(f"b{number}", "boot") for number in range(20)]
    index.apply([], [*shoes, *boots, document("both", "boot", "shoe")])
    assert [item_id for item_id, _ in index.search(["shoe", "boot"], 5)] == ["both"]


def test_words_too_common_to_count_find_nothing() -> None:
    """A word in more products than may be counted is left to the vectors."""
    index = LexicalIndex(max_ranked_rows=5, max_counted_rows=10)
    index.apply([], [document(f"s{number}", "shoe") for number in range(20)])
    assert index.search(["shoe"], 5) == []


def test_words_with_quotes_and_operators_are_plain_text() -> None:
    """No word can change the meaning of a query."""
    index = LexicalIndex()
    index.apply([], [document("a", "and"), document("b", "near")])
    assert index.search(['x" OR "near', "*", '"', ""], 5) == []
    assert [item_id for item_id, _ in index.search(["AND"], 5)] == ["a"]


def test_another_thread_may_search() -> None:
    """The index works in a thread that did not make it."""
    index = LexicalIndex()
    index.apply([], [document("a", "tea")])
    found: list[list[tuple[str, float]]] = []
    thread = threading.Thread(target=lambda: found.append(index.search(["tea"], 1)))
    thread.start()
    thread.join()
    assert [item_id for item_id, _ in found[0]] == ["a"]
