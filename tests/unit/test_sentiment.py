"""The sentiment head: what the shipped one says, what is learnt, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.release import ModelUnavailable
from models.text.sentiment import HEADS_FOLDER, LABELS, SentimentHead, load, packaged_head, save
from models.text_encoder import TextEncoder
from tests.support.shared_data import shared_folder
from training.data.reviews import UnreadableReviews, part_of, read_reviews
from training.tasks.train_sentiment import FeatureSet, SentimentTraining, calibrate, fit, report


@pytest.fixture(scope="module")
def trunk() -> TextEncoder:
    encoder = TextEncoder.load(threads=1)
    head = packaged_head(encoder)
    assert head is not None
    encoder.add_head("sentiment", head)
    return encoder


def test_shipped_head_tells_clear_reviews_apart(trunk: TextEncoder) -> None:
    """The head that ships with the packaged trunk tells clear praise from clear blame."""
    texts = [
        "Absolutely love it, works great and sounds wonderful. Highly recommended!",
        "Terrible quality, it broke after one day. A waste of money, I returned it.",
    ]
    tokens = trunk.tokenize(texts, "passage")
    good, bad = trunk.encode(tokens, {"sentiment": [0, 1]}).heads["sentiment"]
    assert LABELS[int(good.argmax())] == "positive"
    assert LABELS[int(bad.argmax())] == "negative"


def test_bits_do_not_depend_on_neighbours(trunk: TextEncoder) -> None:
    """A review's probabilities have the same bits alone and beside others."""
    texts = [f"It is fine, number {'very ' * n}good." for n in range(9)]
    tokens = trunk.tokenize(texts, "passage")
    together = trunk.encode(tokens, {"sentiment": range(9)}).heads["sentiment"]
    alone = [trunk.encode([one], {"sentiment": [0]}).heads["sentiment"][0] for one in tokens]
    assert np.array_equal(together, np.stack(alone))


def test_training_learns_and_leaves_neutral_to_those_who_know_it() -> None:
    """Training learns separable labels; rows of a binary source are judged on two labels."""
    torch.manual_seed(0)
    labels = torch.arange(300) % 3
    binary = torch.arange(300) >= 200
    labels = torch.where(binary & (labels == 1), 2, labels)
    head = SentimentHead(4, (0,))
    features = torch.nn.functional.one_hot(labels, 8).float() + 0.1 * torch.randn(300, 8)
    rows = FeatureSet(features, labels, binary)
    fit(head, rows, rows, SentimentTraining(learning_rate=1e-2))
    calibrate(head, rows)
    assert report(head, rows).accuracy.value > 0.95


def test_saved_head_is_the_same_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    """A head read back gives the same numbers; one whose bytes changed is refused by name."""
    head = SentimentHead(4, (0,)).eval()
    save(head, tmp_path, name="mine", lineage={})
    features = torch.randn(3, 8)
    assert torch.equal(load(tmp_path)(features), head(features))
    weights = tmp_path / "head.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ModelUnavailable, match="damaged"):
        load(tmp_path)


def test_reviews_of_every_format(tmp_path: Path) -> None:
    """Stars become three labels, 0/1 two, in every format; other labels are refused."""
    stars = tmp_path / "stars.jsonl"
    stars.write_text('{"t": "a", "s": 1}\n{"t": "很好", "s": 5}\n{"t": "c", "s": 3}\n', "utf-8")
    assert [r.label for r in read_reviews(stars, "t", "s")] == [0, 2, 1]
    binary = tmp_path / "binary.tsv"
    binary.write_text('label\ttext\n1\the said "yes\n0\tno\n', "utf-8")
    assert [(r.label, r.binary) for r in read_reviews(binary, "text", "label")] == [
        (2, True),
        (0, True),
    ]
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("label,text\n9,a\n", "utf-8")
    with pytest.raises(UnreadableReviews, match="neither 0/1 nor stars"):
        read_reviews(wrong, "text", "label")


def test_a_text_always_falls_into_the_same_part() -> None:
    """A repeated text, whatever its blanks, never stands in two parts."""
    assert part_of("good  thing\n") == part_of("good thing")
    assert {part_of(str(number)) for number in range(200)} == {"train", "validation", "test"}


def test_every_shipped_head_is_whole_small_and_bound_to_its_own_trunk() -> None:
    """English and Chinese heads load, weigh less than 500 KB and name the weights they fit."""
    manifests = sorted(HEADS_FOLDER.glob("*/head.json"))
    assert [manifest.parent.name for manifest in manifests] == ["sentiment-en", "sentiment-zh"]
    fits = [json.loads(m.read_text("utf-8"))["lineage"]["trunk_weights"] for m in manifests]
    assert len({*fits}) == len(fits)
    for manifest in manifests:
        assert load(manifest.parent).release.startswith(f"{manifest.parent.name}@")
        assert (manifest.parent / "head.safetensors").stat().st_size < 500_000


def test_shipped_chinese_head_reads_chinese_and_english() -> None:
    """On the bilingual trunk the packaged head is the Chinese one, and it knows both languages."""
    bilingual = shared_folder("models") / "multilingual-e5-small-zh-en"
    trunk = TextEncoder.load(bilingual, threads=1)
    head = packaged_head(trunk)
    assert head is not None
    assert head.release.startswith("sentiment-zh@")
    trunk.add_head("sentiment", head)
    texts = ["质量很好，非常喜欢，下次还会买。", "太差了，用了一天就坏了，退货！", "I love it."]
    tokens = trunk.tokenize(texts, "passage")
    probabilities = trunk.encode(tokens, {"sentiment": range(3)}).heads["sentiment"]
    assert [LABELS[int(row.argmax())] for row in probabilities] == [
        "positive",
        "negative",
        "positive",
    ]
