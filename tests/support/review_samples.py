"""Reviews as the worker's export writes them, in words that the tiny trunk knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from models.sample import ForgetSample, ReviewSample, Sample
from worker.topics.sample_export import write_samples
from worker.topics.sample_set import SampleSet

START = datetime(2025, 1, 1, tzinfo=UTC)
_SAID = {1.0: "bad", 3.0: "cheap", 5.0: "good"}
_FILLING = ("the", "a", "is", "shoe", "red", "blue", "run", "one", "day", "after")


def make_reviews(
    count: int, *, first: int = 0, seed: int = 0, flipped: bool = False, locale: str = "en"
) -> list[ReviewSample]:
    """Return reviews, one an hour: one word, said thrice, tells the stars, the others nothing."""
    draw = Random(seed)
    found = []
    for number in range(first, first + count):
        stars = draw.choice(list(_SAID))
        words = [word for other in draw.sample(_FILLING, 3) for word in (_SAID[stars], other)]
        found.append(
            ReviewSample(
                sample_id=f"r{number}",
                occurred_at=(START + timedelta(hours=number)).isoformat(),
                user=f"user-{number % 97}",
                locale=locale,
                product_id="p",
                text=" ".join(words),
                stars=6.0 - stars if flipped else stars,
            )
        )
    return found


def forget(user: str, *, hour: int) -> ForgetSample:
    """Return a request to forget a shopper's samples up to an hour after `START`."""
    moment = START + timedelta(hours=hour)
    return ForgetSample(sample_id=f"f-{user}", occurred_at=moment.isoformat(), user=user)


def export(folder: Path, samples: Iterable[Sample] | Sequence[Sample]) -> Path:
    """Bring samples into a folder as `shopstream samples export` does; return the folder."""
    found = SampleSet()
    for sample in samples:
        found.add(sample.model_dump_json().encode())
    assert found.unreadable == 0
    write_samples(found, folder)
    return folder
