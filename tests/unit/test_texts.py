"""Texts to learn from: every format, both languages, and what is skipped is counted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.data.rows import UnreadableData
from training.data.texts import TextReport, clean_text, read_texts, sentences

TEXTS = ["Good shoes, really.", "质量很好，推荐！"]


def test_every_format_gives_the_same_texts(tmp_path: Path) -> None:
    """Plain text, JSONL, CSV, TSV and Parquet, plain or .gz, give the texts in their order."""
    rows = [{"text": text, "stars": 5} for text in TEXTS]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "a.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "a.csv").write_text(
        'stars,text\n5,"Good shoes, really."\n5,质量很好，推荐！\n', encoding="utf-8-sig"
    )
    (tmp_path / "a.tsv").write_text("stars\ttext\n" + "".join(f"5\t{t}\n" for t in TEXTS), "utf-8")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for path in sorted(tmp_path.iterdir()):
        assert list(read_texts([path])) == TEXTS, path.name


def test_blank_lines_divide_documents(tmp_path: Path) -> None:
    """Where blank lines stand between lines, a block is one text; else a line is one."""
    blocks = tmp_path / "blocks.txt"
    blocks.write_text("One.\nTwo.\n\nThree.\n", encoding="utf-8")
    assert list(read_texts([blocks])) == ["One.\nTwo.", "Three."]
    ends = tmp_path / "ends.txt"
    ends.write_text("\nOne.\nTwo.\n\n", encoding="utf-8")
    assert list(read_texts([ends])) == ["One.", "Two."]


def test_what_is_skipped_is_counted_with_its_place(tmp_path: Path) -> None:
    """Bad lines, empty texts and repeated ones are counted, and the rest is read."""
    path = tmp_path / "shop.jsonl"
    path.write_bytes(
        b'{"text": "fine"}\nnot json\n[1]\n{"text": ""}\n{"text": "\xff"}\n{"text": " fine "}\n'
        b'{"text": null}\n{"text": "!!!"}\n'
    )
    report = TextReport()
    assert list(read_texts([path], report=report)) == ["fine"]
    assert report.texts == 1
    assert report.skipped == {
        "not JSON": 1,
        "not a JSON object": 1,
        "not UTF-8": 1,
        "the same text again": 1,
        "empty or without a letter": 3,
    }
    assert any("shop.jsonl:2" in line for line in report.sentences())


def test_columns_are_joined_and_a_missing_one_is_named(tmp_path: Path) -> None:
    """Several columns make one text; a file without any of them is refused by its columns."""
    path = tmp_path / "products.csv"
    path.write_text("title,description\nShoe,Red.\nLamp,\n", encoding="utf-8")
    assert list(read_texts([path], ["title", "description"])) == ["Shoe\nRed.", "Lamp"]
    with pytest.raises(UnreadableData, match=r"title, description.*--text-field"):
        list(read_texts([path], ["text"]))


@pytest.mark.parametrize("name", ["half.parquet", "half.jsonl.gz"])
def test_a_file_that_breaks_off_is_named(tmp_path: Path, name: str) -> None:
    """A half-written Parquet or gzip file ends with a sentence that names it."""
    path = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(pa.table({"text": ["a" * 50] * 100}), path)
    else:
        path.write_bytes(gzip.compress(b'{"text": "a text"}\n' * 100))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UnreadableData, match=name):
        list(read_texts([path]))


def test_texts_are_cleaned_and_cut_into_sentences() -> None:
    """Control characters and doubled blanks go; Chinese and English sentences are told apart."""
    assert clean_text("a\x00b\t c\r\n\n d ") == "a b c\nd"
    assert sentences("It is good. Buy it! 质量好。还会再买！真的") == [
        "It is good.",
        "Buy it!",
        "质量好。",
        "还会再买！",
        "真的",
    ]
