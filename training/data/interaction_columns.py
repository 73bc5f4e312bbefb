"""Which columns of an interaction file hold the user, the item and the time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Usual names in the order of preference, compared without case, `_`, `-`, spaces or RecBole's
# `:token` behind them.
USER_NAMES = (
    "user", "userid", "uid", "customer", "customerid", "shopper", "shopperid", "household",
    "householdid", "householdkey", "reviewerid", "visitor", "visitorid", "member", "memberid",
    "client", "clientid", "account", "accountid", "buyerid", "session", "sessionid",
)  # fmt: skip
ITEM_NAMES = (
    "item", "itemid", "iid", "product", "productid", "movie", "movieid", "asin", "parentasin",
    "sku", "article", "articleid", "goodsid", "book", "bookid", "isbn", "business", "businessid",
    "game", "gameid", "appid", "song", "songid", "track", "trackid", "video", "videoid", "newsid",
    "stockcode",
)  # fmt: skip
TIME_NAMES = (
    "timestamp", "time", "ts", "occurredat", "datetime", "transactiontimestamp", "eventtime",
    "createdat", "purchasedat", "unixreviewtime", "unixtime", "timestampms", "invoicedate",
    "orderdate", "purchasedate", "tdat", "date",
)  # fmt: skip


class InteractionsError(ValueError):
    """A file holds no interactions that can be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a file (by place and name) that hold user, item and, if any, time."""

    header: tuple[str, ...]
    user_place: int
    item_place: int
    time_place: int | None
    named: bool = True

    @property
    def width(self) -> int:
        """How many cells a row has."""
        return len(self.header)

    def names(self) -> tuple[str, ...]:
        """Return the names of the columns read: user, item and, if any, time."""
        places = [self.user_place, self.item_place]
        if self.time_place is not None:
            places.append(self.time_place)
        return tuple(self.header[place] for place in places)

    def __str__(self) -> str:
        """Return which columns are read, for reports."""
        if not self.named:
            return f"no header: columns {', '.join(self.header)}"
        time = "none" if self.time_place is None else self.header[self.time_place]
        return (
            f"user = {self.header[self.user_place]}, item = {self.header[self.item_place]},"
            f" time = {time}"
        )


def is_header(cells: Sequence[str], given: Sequence[str], table: bool) -> bool:
    """Return whether a first line names columns.

    It does when it holds a given name or the usual names of both user and item; in a .csv or .tsv
    also when none of its cells is a number.
    """
    if any(name in cells for name in given):
        return True
    plain = {_plain(cell) for cell in cells}
    if plain & set(USER_NAMES) and plain & set(ITEM_NAMES):
        return True
    return table and not any(_is_number(cell) for cell in cells)


def resolve_columns(
    path: Path, header: Sequence[str], user: str | None, item: str | None, time: str | None
) -> Columns:
    """Find the columns by the names given, or by the usual names; the time may be absent.

    Raises:
        InteractionsError: a column is missing; the message names those found.
    """
    header = [cell.strip() for cell in header]
    places = {
        "user": _place(path, header, "user", user, USER_NAMES),
        "item": _place(path, header, "item", item, ITEM_NAMES),
    }
    time_place = None
    if time is not None or {_plain(name) for name in header} & set(TIME_NAMES):
        time_place = _place(path, header, "timestamp", time, TIME_NAMES)
    return Columns(tuple(header), places["user"], places["item"], time_place)


def numbered_columns(path: Path, cells: Sequence[str]) -> Columns:
    """Return the columns of a file without a header: user, item, then time, or rating and time.

    Raises:
        InteractionsError: a line has fewer than two or more than four cells.
    """
    layouts = {
        2: (("user", "item"), None),
        3: (("user", "item", "timestamp"), 2),
        4: (("user", "item", "rating", "timestamp"), 3),  # MovieLens and Amazon ratings
    }
    if len(cells) not in layouts:
        raise InteractionsError(
            f"{path}: lines without a header must be `user item`, `user item timestamp` or `user"
            f" item rating timestamp`, but the first has {len(cells)} columns: {' '.join(cells)!r}"
        )
    header, time_place = layouts[len(cells)]
    return Columns(header, 0, 1, time_place, named=False)


def _place(
    path: Path, header: Sequence[str], role: str, given: str | None, usual: Sequence[str]
) -> int:
    if given is not None:
        if given in header:
            return header.index(given)
        raise InteractionsError(
            f"{path} has no column {given!r} for the {role}; its columns: {', '.join(header)}"
        )
    plain = [_plain(name) for name in header]
    for name in usual:
        if name in plain:
            return plain.index(name)
    raise InteractionsError(
        f"{path} has no column that looks like the {role}; its columns: {', '.join(header)};"
        f" name it with --{role}-column"
    )


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]", "", name.split(":")[0].lower())


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
