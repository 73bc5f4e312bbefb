"""The live view shows the figures it is given, in width and height of the terminal."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from worker.page.live_figures import (
    KindFigures,
    LiveFigures,
    ShownAnswer,
    ShownItem,
    ShownList,
    ShownReview,
)
from worker.page.live_view import live_view, progress_line, trend, write_svg
from worker.page.terminal import Terminal

FIGURES = LiveFigures(
    heading="shopstream demo",
    places=["Kafka 127.0.0.1:9092"],
    elapsed_s=83.0,
    limit_s=120.0,
    events_per_s=39.7,
    events_trend=[10.0, 20.0, 40.0],
    p50_ms=34.4,
    p99_ms=181.0,
    p99_trend_ms=[150.0, 181.0],
    events_per_batch=3.25,
    largest_batch=17,
    batches=321,
    waiting=4,
    kinds=[
        KindFigures("search", 700, 697, 33.0, 170.0),
        KindFigures("product", 300, 300),
    ],
    samples={"next-item": 88},
    dead_letters={"invalid_json": 3},
    last_dead_letter="the value is not JSON",
    scores={"tags as their writers meant": 0.914},
    recommendations=[
        ShownList(
            "u00007 bought Tent Vireo", [ShownItem("Sleeping bag", "because you bought Tent")]
        )
    ],
    searches=[ShownList("“无线耳机”", [ShownItem("星轨 耳机", "与您的搜索相符")])],
    reviews=[ShownReview("Broke after two weeks.", "negative", 0.97, "negative")],
    answers=[
        ShownAnswer("How long is the cable?", "The cable is 2 metres long.", "product p1", 0.81),
        ShownAnswer("Will it rain?", None, "", 0.1),
    ],
)


def rendered(figures: LiveFigures, width: int = 150, height: int = 44) -> str:
    console = Console(width=width, height=height, file=io.StringIO(), record=True)
    console.print(live_view(figures), height=height)
    return console.export_text()


def test_every_figure_and_every_last_answer_stands_in_the_view() -> None:
    """Rates, latencies, counts, lists with reasons, tags and answers are all there."""
    text = rendered(FIGURES)
    for expected in (
        *("40 events/s", "34 ms", "181 ms", "3.2 events a batch", "4 waiting", "01:23 of 02:00"),
        *("700", "697", "170", "321, largest 17 events", "88 next-item"),
        *("3 invalid_json", "the value is not JSON", "91%", "u00007 bought Tent Vireo"),
        *("Sleeping bag", "because you bought Tent", "无线耳机", "星轨 耳机", "与您的搜索相符"),
        *("negative 97%", "Broke after two weeks.", "How long is the cable?"),
        *("The cable is 2 metres long.", "product p1, 81%", "Will it rain?", "no answer found"),
    ):
        assert expected in text, expected


def test_a_tag_that_differs_from_what_was_meant_says_so() -> None:
    """A wrong tag is not hidden."""
    review = ShownReview("Fine.", "positive", 0.6, "neutral")
    assert "(meant neutral) Fine." in rendered(LiveFigures(reviews=[review]))


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 12), (200, 60)])
def test_the_view_keeps_to_the_terminal(width: int, height: int) -> None:
    """No line is wider and the view not higher than the terminal, even with Chinese text."""
    lines = rendered(FIGURES, width, height).rstrip("\n").split("\n")
    assert len(lines) <= height
    console = Console(width=width)
    assert all(console.measure(line).maximum <= width for line in lines)


def test_nothing_known_yet_is_shown_as_such() -> None:
    """Before the first event the view stands without figures."""
    text = rendered(LiveFigures())
    assert "0 events/s" in text
    assert "p50 –" in text


def test_markup_in_texts_is_not_obeyed() -> None:
    """What shoppers write is text, never markup."""
    review = ShownReview("[red]no[/red] [link=x]y[/link]", "neutral", 0.5)
    assert "[red]no[/red] [link=x]y[/link]" in rendered(LiveFigures(reviews=[review]))


def test_the_picture_is_an_svg_with_the_figures(tmp_path: Path) -> None:
    """The SVG holds the view's text, loads nothing and names no place of this machine."""
    path = tmp_path / "view.svg"
    write_svg(FIGURES, path)
    svg = path.read_text(encoding="utf-8")
    assert svg.startswith("<svg")
    text = re.sub(r"<[^>]+>", "", svg).replace("&#160;", " ")
    assert "because you bought Tent" in text
    assert "无线耳机" in text
    assert "url(http" not in svg
    assert "url(" in svg  # its own clip paths
    assert "127.0.0.1" not in text


def test_the_plain_line_carries_the_main_figures() -> None:
    """Where there is no terminal one line says it."""
    assert progress_line(FIGURES) == (
        "  83 s: 39.7 events/s, 1000 sent, 997 answered, 4 waiting, p50 34 ms, p99 181 ms, "
        "3.2 events a batch, 3 dead letters"
    )


def test_trends_are_bars_of_the_newest_values() -> None:
    """The highest of the newest values is a full bar; no values are no bars."""
    assert trend([1.0, 2.0, 4.0, 8.0], width=3) == "▂▄█"
    assert trend([0.0, 0.0]) == "▁▁"
    assert trend([]) == ""


def test_without_a_terminal_plain_lines_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines go to standard error, snapshots as a line now and then; standard output stays empty."""
    with Terminal() as terminal:
        terminal.say("Starting [1]")
        terminal.show(FIGURES)
        terminal.show(FIGURES)
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("39.7 events/s") == 1
    assert "Starting [1]" in output.err
