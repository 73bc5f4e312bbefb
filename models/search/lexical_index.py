"""BM25 over the products' words, by SQLite's FTS5 in memory.

FTS5 because it is incremental and exact on deletes: a score depends only on the documents that
stand in the index now, never on when segments merged, so a replay scores as the live run did. Words
are cut by `models.search.lexical_text` before they come here; FTS5 only splits at blanks.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

COLUMNS = ("title", "description", "category", "brand")
# On the ESCI slice nDCG@10 is .622 with these and .597 with equal ones; it is flat around them.
COLUMN_WEIGHTS = (5.0, 1.0, 2.0, 3.0)
MAX_QUERY_TERMS = 64
_TIE_SLACK = 50  # rows read beyond the cut: nearly all ties end there, and need no second look
# Ranking a matching row costs about 1 µs, counting one for its term's weight about 0.1 µs.
MAX_RANKED_ROWS = 20_000
MAX_COUNTED_ROWS = 100_000


class LexicalSearchUnavailable(Exception):
    """This Python's SQLite cannot search text; the message says what to do."""


@dataclass(frozen=True, slots=True)
class LexicalDocument:
    """A product's words, one tuple for each of `COLUMNS`."""

    id: str
    columns: tuple[tuple[str, ...], ...]

    def terms(self) -> set[str]:
        """Return the distinct words of all columns."""
        return {term for column in self.columns for term in column}


class LexicalIndex:
    """An incremental BM25 index. Used by one thread at a time, not always the same one."""

    def __init__(
        self,
        weights: Sequence[float] = COLUMN_WEIGHTS,
        max_ranked_rows: int = MAX_RANKED_ROWS,
        max_counted_rows: int = MAX_COUNTED_ROWS,
    ) -> None:
        """Make an empty index; `weights` are BM25's weights of `COLUMNS`."""
        self._max_ranked_rows = max_ranked_rows
        self._max_counted_rows = max_counted_rows
        self._database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._rows: dict[str, int] = {}
        self._ids: list[str] = [""]  # by row; rows of FTS5 begin at 1
        self._free: list[int] = []
        self._documents_with: Counter[str] = Counter()
        score = f"bm25(words, {', '.join(str(float(weight)) for weight in weights)})"
        self._select = f"SELECT rowid, {score} AS score FROM words WHERE words MATCH ?"
        self._create()

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self._rows)

    def apply(self, removed: Iterable[LexicalDocument], added: Iterable[LexicalDocument]) -> None:
        """Take documents out, exactly as they were added, then add others, in one transaction."""
        self._database.execute("BEGIN")
        try:
            self._remove(removed)
            self._add(added)
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def search(self, terms: Sequence[str], k: int) -> list[tuple[str, float]]:
        """Return at most `k` ids with their BM25 score (above zero), best first, ties by id.

        On a large catalogue very common terms only add to the score of products that a rarer term
        has found (`MAX_RANKED_ROWS`); a query of nothing but common terms finds the products that
        hold all of them, or none when that too would hold up the others (`MAX_COUNTED_ROWS`).
        """
        query = self._plan(terms)
        if not query or k <= 0:
            return []
        slack = k + _TIE_SLACK
        best = self._rank(f"{self._select} ORDER BY score LIMIT ?", query, slack)
        if len(best) == slack and best[-1][1] == best[k - 1][1]:  # the tie at the cut goes on
            best = self._rank(f"{self._select} AND score <= ?", query, best[-1][1])
        return best[:k]

    def _rank(self, select: str, query: str, bound: float) -> list[tuple[str, float]]:
        rows: list[tuple[int, float]] = self._database.execute(select, (query, bound)).fetchall()
        ranked = sorted([(score, self._ids[row]) for row, score in rows])
        return [(document, -score) for score, document in ranked]

    def _create(self) -> None:
        try:
            # 'ascii' splits at ASCII characters that are neither alphanumeric nor named here;
            # 'porter' joins the forms of English words and leaves all others as they are
            self._database.execute(
                f"CREATE VIRTUAL TABLE words USING fts5({', '.join(COLUMNS)}, content='',"
                " tokenize=\"porter ascii tokenchars '&./+-'\")"
            )
        except sqlite3.OperationalError as error:
            raise LexicalSearchUnavailable(
                "this Python's SQLite lacks the FTS5 extension; use a Python built with it, such as"
                " those of python.org, Debian or uv"
            ) from error

    def _remove(self, documents: Iterable[LexicalDocument]) -> None:
        values = []
        for document in documents:
            row = self._rows.pop(document.id)
            self._free.append(row)
            for term in document.terms():
                self._documents_with[term] -= 1
                if not self._documents_with[term]:
                    del self._documents_with[term]
            values.append((row, *(" ".join(column) for column in document.columns)))
        self._database.executemany(
            f"INSERT INTO words(words, rowid, {', '.join(COLUMNS)})"
            " VALUES ('delete', ?, ?, ?, ?, ?)",
            sorted(values),
        )

    def _add(self, documents: Iterable[LexicalDocument]) -> None:
        values = []
        for document in documents:
            if self._free:
                row = self._free.pop()
                self._ids[row] = document.id
            else:
                row = len(self._ids)
                self._ids.append(document.id)
            self._rows[document.id] = row
            self._documents_with.update(document.terms())
            values.append((row, *(" ".join(column) for column in document.columns)))
        self._database.executemany(
            f"INSERT INTO words(rowid, {', '.join(COLUMNS)}) VALUES (?, ?, ?, ?, ?)",
            sorted(values),  # FTS5 writes a new segment wherever the order of rows breaks
        )

    def _plan(self, terms: Sequence[str]) -> str:
        """Return the FTS5 expression of a query; an empty one where it would cost too much.

        Counts are of words before stemming, so a term without any may still match.
        """
        counts = {term: self._documents_with.get(term, 0) for term in terms}
        rarest_first = sorted(counts, key=lambda term: (counts[term], term))[:MAX_QUERY_TERMS]
        rare, common, rows = list[str](), list[str](), 0
        for term in rarest_first:
            rows += counts[term]
            if rows <= self._max_ranked_rows:
                rare.append(term)
            elif rows <= self._max_counted_rows:
                common.append(term)
        if rare and common:  # FTS5 has no optional terms: the rarer ones stand, and count, twice
            return f"({_any(rare)}) AND ({_any([*rare, *common])})"
        return _any(rare) or " AND ".join(_quoted(common))


def _quoted(terms: Sequence[str]) -> list[str]:
    # words hold no quotes (lexical_tokens), but whoever calls this class may bring other ones
    return [f'"{term.replace(chr(34), chr(34) * 2)}"' for term in terms]


def _any(terms: Sequence[str]) -> str:
    return " OR ".join(_quoted(terms))
