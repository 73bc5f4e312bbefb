"""Every rule of a column map, and what breaks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from worker.events.column_map import BadColumnMap, ColumnMap
from worker.events.files import BadRow


def load(tmp_path: Path, text: str) -> ColumnMap:
    path = tmp_path / "map.toml"
    path.write_text(text, encoding="utf-8")
    return ColumnMap.load(path)


def apply(tmp_path: Path, text: str, *rows: Any) -> list[tuple[int, Any]]:
    return list(load(tmp_path, text).apply(enumerate(rows, 1), "orders"))


def reason(result: tuple[int, Any]) -> str:
    assert isinstance(result[1], BadRow), result
    return result[1].reason


def test_fields_come_from_columns_and_templates(tmp_path: Path) -> None:
    """A field takes a column's value as text, or a template of columns, line and file."""
    text = """
    [fields]
    user_id = "customer"
    event_id = "{file}:{customer}:{line}"
    query = "词"
    [constants]
    locale = "zh-CN"
    """
    assert apply(tmp_path, text, {"customer": 7, "词": " 耳机 "}) == [
        (1, {"user_id": "7", "event_id": "orders:7:1", "query": "耳机", "locale": "zh-CN"})
    ]


@pytest.mark.parametrize("empty", [None, "", "  ", float("nan"), []])
def test_empty_cells_leave_their_field_out(tmp_path: Path, empty: Any) -> None:
    """A null, a blank, NaN or an empty list gives no field, alone or in a template of its own."""
    text = '[fields]\na = "x"\nb = "{x}"\nc = "{x}-{y}"\n[numbers]\nd = "x"\n[lists]\n'
    text += 'e = { column = "x" }'
    assert apply(tmp_path, text, {"x": empty, "y": 1}) == [(1, {"c": "-1"})]


def test_numbers_and_values_stand_for_what_the_map_says(tmp_path: Path) -> None:
    """Texts become numbers, and values are replaced as the map lists them; others are faults."""
    text = '[fields]\navailable = "state"\n[numbers]\nstars = "label"\n'
    text += "[values.stars]\n0 = 1.0\n1 = 5.0\n[values.available]\non = true\noff = false"
    rows = [
        {"state": "on", "label": "1"},
        {"state": "off", "label": 0},
        {"state": "on", "label": "2"},
    ]
    results = apply(tmp_path, text, *rows)
    assert results[0] == (1, {"available": True, "stars": 5.0})
    assert results[1] == (2, {"available": False, "stars": 1.0})
    assert "values.stars" in reason(results[2])
    numbers = apply(tmp_path, '[numbers]\nstars = "s"', {"s": "4.5"}, {"s": 4}, {"s": "four"})
    assert [row for _, row in numbers[:2]] == [{"stars": 4.5}, {"stars": 4}]
    assert "'four', not a number" in reason(numbers[2])


@pytest.mark.parametrize(
    ("time", "value", "expected"),
    [
        ('format = "unix_s"', 1_393_545_600, "2014-02-28T00:00:00+00:00"),
        ('format = "unix_s"', "1393545600.25", "2014-02-28T00:00:00.250000+00:00"),
        ('format = "unix_ms"', "1393545600500", "2014-02-28T00:00:00.500000+00:00"),
        ("", "2014-02-28T01:00:00+01:00", "2014-02-28T00:00:00+00:00"),
        ('zone = "Asia/Shanghai"', "2014-02-28 08:00", "2014-02-28T00:00:00+00:00"),
        ('zone = "Asia/Shanghai"', "2014-02-28T00:00Z", "2014-02-28T00:00:00+00:00"),
        ('format = "%d.%m.%Y"\nzone = "UTC"', "28.02.2014", "2014-02-28T00:00:00+00:00"),
        ('format = "%d/%b/%Y %z"', "28/Feb/2014 +0200", "2014-02-27T22:00:00+00:00"),
        ('zone = "America/New_York"', "2014-07-01 00:00", "2014-07-01T04:00:00+00:00"),
    ],
)
def test_times_of_every_form_become_utc(
    tmp_path: Path, time: str, value: Any, expected: str
) -> None:
    """Unix seconds and milliseconds, ISO texts and any strptime form are read in their zone."""
    text = f'[time]\ncolumn = "t"\n{time}'
    assert apply(tmp_path, text, {"t": value}) == [(1, {"occurred_at": expected})]


@pytest.mark.parametrize(
    ("time", "value", "words"),
    [
        ("", "2014-02-28 08:00", "has no zone"),
        ("", None, "has no time"),
        ("", "yesterday", "no time of the form iso"),
        ('format = "unix_s"', "soon", "not a number"),
        ('format = "unix_s"', 1e300, "no time of the form unix_s"),
        ('format = "unix_s"', "inf", "no time of the form unix_s"),
        ('format = "%Y"\nzone = "UTC"', "20x4", "no time of the form %Y"),
    ],
)
def test_a_time_that_cannot_be_read_is_a_fault(
    tmp_path: Path, time: str, value: Any, words: str
) -> None:
    """No zone is guessed and no broken time let through."""
    assert words in reason(apply(tmp_path, f'[time]\ncolumn = "t"\n{time}', {"t": value})[0])


def test_lists_come_from_lists_or_split_texts(tmp_path: Path) -> None:
    """A list of ids is taken as it is or split; a text without separator is a fault."""
    text = '[lists]\nshown = { column = "ids", separator = "|" }'
    assert apply(tmp_path, text, {"ids": "a| b||c"}, {"ids": [1, 2]}) == [
        (1, {"shown": ["a", "b", "c"]}),
        (2, {"shown": ["1", "2"]}),
    ]
    unsplit = apply(tmp_path, '[lists]\nshown = { column = "ids" }', {"ids": "a|b"})
    assert "separator" in reason(unsplit[0])


ORDERS = """
[fields]
order_id = "basket"
[items]
group_by = "basket"
product_id = "sku"
quantity = "n"
total = "sum"
"""


def line(basket: Any, sku: str, n: Any = 1, total: Any = None) -> dict[str, Any]:
    return {"basket": basket, "sku": sku, "n": n, "sum": total}


def test_rows_without_a_group_are_orders_of_their_own(tmp_path: Path) -> None:
    """Neighbours of one group are one event under the first's line; rows of no group stay alone."""
    rows = [line(1, "a"), line(1, "b", 2, 5.0), line(2, "a"), line(None, "c"), line(None, "d")]
    results = apply(tmp_path, ORDERS, *rows)
    assert [(at, row.get("order_id")) for at, row in results] == [
        (1, "1"),
        (3, "2"),
        (4, None),
        (5, None),
    ]
    assert results[0][1]["items"] == [
        {"product_id": "a", "quantity": 1},
        {"product_id": "b", "quantity": 2, "price": 2.5},
    ]


def test_a_group_that_comes_again_is_a_fault(tmp_path: Path) -> None:
    """A scattered order is named, since a second event of its id would be taken for a repeat."""
    results = apply(tmp_path, ORDERS, line(1, "a"), line(2, "b"), line(1, "c"), line(3, "d"))
    faults = {at: row.reason for at, row in results if isinstance(row, BadRow)}
    assert list(faults) == [3]
    assert "do not stand together" in faults[3]
    assert [at for at, row in results if not isinstance(row, BadRow)] == [1, 2, 4]


def test_a_bad_line_leaves_the_rest_of_its_order(tmp_path: Path) -> None:
    """A bad row inside a group is named, and the order goes on with its other rows."""
    rows = [line(1, "a"), line(1, "b", -1), BadRow("broken"), line(1, "c")]
    results = dict(apply(tmp_path, ORDERS, *rows))
    assert "kind return" in results[2].reason
    assert results[3].reason == "broken"
    assert [item["product_id"] for item in results[1]["items"]] == ["a", "c"]


def test_quantities_are_whole_and_zero_is_no_line(tmp_path: Path) -> None:
    """A weight is rounded to at least one piece, and a quantity of zero leaves its line out."""
    rows = [line(1, "a", 0.2, 1.0), line(1, "b", 2.4), line(1, "c", 0), line(1, "d", "3")]
    ((_, event),) = apply(tmp_path, ORDERS, *rows)
    assert event["items"] == [
        {"product_id": "a", "quantity": 1, "price": 5.0},
        {"product_id": "b", "quantity": 2},
        {"product_id": "d", "quantity": 3},
    ]


def test_items_come_from_a_nested_list(tmp_path: Path) -> None:
    """The lines of an order may stand in a list of objects in the row itself."""
    text = '[items]\nfrom = "lines"\nproduct_id = "{shop}-{sku}"\nprice = "unit"'
    row = {"shop": "s", "lines": [{"sku": 1, "unit": "9.5"}, {"sku": 2, "unit": None}]}
    results = apply(tmp_path, text, row, {"shop": "s", "lines": "1,2"})
    assert results[0][1]["items"] == [{"product_id": "s-1", "price": 9.5}, {"product_id": "s-2"}]
    assert "no list of objects" in reason(results[1])


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    """A row without a column that the map names is a fault with the column's name."""
    found = reason(apply(tmp_path, '[fields]\na = "{x}/{y}"', {"x": 1})[0])
    assert found == "there is no column 'y'"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[fields", "cannot be read"),
        ("[colour]\na = 1", "colour"),
        ("[fields]\na = 5", r"fields\.a must be a text"),
        ('[fields]\na = "{x"', "no template"),
        ('[fields]\na = "{}"', "no template"),
        ('[fields]\na = "{x:>9}"', "no template"),
        ('[time]\nformat = "unix_s"', r"time\.column is missing"),
        ('[time]\ncolumn = "t"\nzone = "Mars"', "no time zone"),
        ('[items]\nquantity = "n"', r"items\.product_id is missing"),
        ('[items]\nproduct_id = "p"\ngroup_by = "g"\nfrom = "f"', "not both"),
        ('[items]\nproduct_id = "p"\nprice = "g"\ntotal = "f"', "not both"),
    ],
)
def test_a_wrong_map_is_refused_when_it_is_read(tmp_path: Path, text: str, words: str) -> None:
    """A map with unknown sections, broken templates or contradictions says where it is wrong."""
    with pytest.raises(BadColumnMap, match=words):
        load(tmp_path, text)


def test_a_missing_map_is_named(tmp_path: Path) -> None:
    """A map file that is not there is named."""
    with pytest.raises(BadColumnMap, match=r"gone\.toml"):
        ColumnMap.load(tmp_path / "gone.toml")
