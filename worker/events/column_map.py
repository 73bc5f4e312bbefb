"""A shop's own columns become the fields of an event, by a map in TOML.

    [fields]                       # event field = column, or a template of columns
    review_id = "{reviewerID}-{asin}"
    text = "reviewText"            # {line} is the row's line, {file} its file's name
    [numbers]                      # event field = column whose text is a number
    stars = "overall"
    [lists]                        # event field = column that holds a list, or text to be split
    shown = { column = "impressions", separator = "|" }
    [constants]                    # event field = fixed value
    locale = "en-US"
    [values.stars]                 # what a value of a field or number stands for
    0 = 1.0
    [time]                         # occurred_at
    column = "unixReviewTime"
    format = "unix_s"              # unix_s, unix_ms, iso (the default), or a strptime format
    zone = "America/New_York"      # of times without one; without it they are faults
    [items]                        # the lines of an order
    group_by = "basket_id"         # neighbouring rows with this value are one order; or
    from = "lines"                 # the column that holds the list of lines
    product_id = "product_id"
    quantity = "quantity"
    price = "unit_price"           # or total = "sales_value": of the whole line

Empty cells leave their field out, so an optional field may be empty. A quantity of 0 leaves its
line out of the order; a fraction, as of goods sold by weight, is rounded, to at least 1.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from worker.errors import ShopstreamError
from worker.events.cells import RowFault, cell, number, text, whole_quantity
from worker.events.files import BadRow, Row
from worker.events.reason import field_faults

NumberedRow = tuple[int, Row | BadRow]


class BadColumnMap(ShopstreamError):
    """The map itself is wrong; the message says where."""


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"is no time zone ({name}); write one such as Asia/Shanghai") from None
    return name


def _whole_template(source: str) -> str:
    try:
        parts = list(Formatter().parse(source))
    except ValueError as error:
        raise ValueError(f"is no template: {error}") from None
    if any(column == "" or form or conversion for _, column, form, conversion in parts):
        raise ValueError("is no template: write {column} and nothing else in braces")
    return source


_Source = Annotated[str, Field(min_length=1), AfterValidator(_whole_template)]
_Column = Annotated[str, Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TimeMap(_Section):
    """Where `occurred_at` is read from."""

    column: _Column
    format: str = "iso"
    zone: Annotated[str, AfterValidator(_known_zone)] | None = None

    def read(self, row: Row) -> str:
        """Return the time in UTC, RFC 3339; raises RowFault."""
        value = cell(row, self.column)
        if value is None:
            raise RowFault(f"column {self.column!r} has no time")
        try:
            moment = self._moment(value)
            if moment.tzinfo is None:
                if self.zone is None:
                    raise RowFault(f"{value!r} has no zone; name it in the map: [time] zone")
                moment = moment.replace(tzinfo=ZoneInfo(self.zone))
            return moment.astimezone(UTC).isoformat()
        except (ValueError, OverflowError, OSError) as error:
            raise RowFault(f"{value!r} is no time of the form {self.format}: {error}") from None

    def _moment(self, value: Any) -> datetime:
        if self.format in ("unix_s", "unix_ms"):
            seconds = number(value, self.column) / (1000 if self.format == "unix_ms" else 1)
            return datetime.fromtimestamp(seconds, UTC)
        if isinstance(value, datetime):
            return value
        if self.format == "iso":
            return datetime.fromisoformat(str(value))
        return datetime.strptime(str(value), self.format)


class ListMap(_Section):
    """Where a list of ids is read from."""

    column: _Column
    separator: Annotated[str, Field(min_length=1)] | None = None

    def read(self, row: Row) -> list[str] | None:
        """Return the parts that are not empty, as texts; raises RowFault."""
        value = cell(row, self.column)
        if isinstance(value, str) and self.separator is not None:
            value = value.split(self.separator)
        if value is not None and not isinstance(value, list):
            raise RowFault(f"column {self.column!r} holds no list; name a separator in the map")
        return value and [str(part).strip() for part in value if str(part).strip()]


class ItemsMap(_Section):
    """Where the lines of an order are read from."""

    group_by: _Column | None = None
    from_: _Column | None = Field(default=None, alias="from")
    product_id: _Source
    quantity: _Column | None = None
    price: _Column | None = None
    total: _Column | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.group_by is not None and self.from_ is not None:
            raise ValueError("takes group_by or from, not both")
        if self.price is not None and self.total is not None:
            raise ValueError("takes price or total, not both")
        return self

    def read(self, row: Row) -> list[Row]:
        """Return the row's lines as items of an event; raises RowFault."""
        if self.from_ is None:
            lines = [row]
        else:
            held = cell(row, self.from_)
            if not isinstance(held, list) or not all(isinstance(line, dict) for line in held):
                raise RowFault(f"column {self.from_!r} holds no list of objects")
            lines = [{**row, **line} for line in held]
        return [item for line in lines if (item := self._item(line)) is not None]

    def _item(self, row: Row) -> Row | None:
        item: Row = {"product_id": text(self.product_id, row)}
        quantity = 1.0
        if self.quantity is not None and (held := cell(row, self.quantity)) is not None:
            quantity = number(held, self.quantity)
            if quantity == 0:
                return None
            item["quantity"] = whole_quantity(quantity, self.quantity)
        column = self.price or self.total
        if column is not None and (price := cell(row, column)) is not None:
            item["price"] = number(price, column) / (1 if self.price else quantity)
        return item


class ColumnMap(_Section):
    """A read map; `apply` makes event objects of rows."""

    fields: dict[str, _Source] = {}
    numbers: dict[str, _Column] = {}
    lists: dict[str, ListMap] = {}
    constants: dict[str, Any] = {}
    values: dict[str, dict[str, Any]] = {}
    time: TimeMap | None = None
    items: ItemsMap | None = None

    @classmethod
    def load(cls, path: Path) -> ColumnMap:
        """Read a map; raises BadColumnMap."""
        try:
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadColumnMap(f"the map {path} cannot be read: {error}") from error
        except ValidationError as error:
            raise BadColumnMap(f"the map {path} is wrong: {field_faults(error)}") from error

    def apply(self, rows: Iterable[NumberedRow], file: str = "") -> Iterator[NumberedRow]:
        """Yield (line, event object) for each row, or for each group of an order's rows.

        A group that comes a second time is a fault (its event's id would be a repeat); to know
        that, some 70 bytes a group are kept.
        """
        group_by = self.items.group_by if self.items is not None else None
        groups: set[int] = set()
        open_group: Any = None
        opened: tuple[int, Row] | None = None
        for line, row in rows:
            try:
                if isinstance(row, BadRow):
                    raise RowFault(row.reason)
                known = {**row, "line": line, "file": file}
                group = None if group_by is None else cell(known, group_by)
                if opened is not None and group is not None and group == open_group:
                    opened[1]["items"].extend(self._items(known))
                    continue
                if group is not None and hash(group) in groups:
                    raise RowFault(f"the rows of {group_by} {group!r} do not stand together: sort")
                event = self._event(known)
            except RowFault as fault:
                yield line, BadRow(str(fault))
                continue
            if opened is not None:
                yield opened
                opened = None
            if group is None:
                yield line, event
            else:
                groups.add(hash(group))
                opened, open_group = (line, event), group
        if opened is not None:
            yield opened

    def _event(self, row: Row) -> Row:
        event: Row = dict(self.constants)
        for name, source in self.fields.items():
            event[name] = self._valued(name, text(source, row))
        for name, column in self.numbers.items():
            value = self._valued(name, cell(row, column))
            event[name] = number(value, column) if isinstance(value, str) else value
        for name, list_map in self.lists.items():
            event[name] = list_map.read(row)
        if self.time is not None:
            event["occurred_at"] = self.time.read(row)
        if self.items is not None:
            event["items"] = self._items(row)
        return {name: value for name, value in event.items() if value is not None}

    def _items(self, row: Row) -> list[Row]:
        return [] if self.items is None else self.items.read(row)

    def _valued(self, name: str, value: Any) -> Any:
        if name not in self.values or value is None:
            return value
        try:
            return self.values[name][str(value)]
        except KeyError:
            raise RowFault(f"[values.{name}] does not say what {value!r} stands for") from None
