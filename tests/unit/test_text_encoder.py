"""The text trunk: tokens and buckets, pooling and prefixes, heads, and the same bits everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from models.release import write_manifest
from models.text_encoder import TextEncoder, Tokens, TokenStates, bucket_of
from tests.support.shared_data import shared_folder
from tests.support.tiny_trunk import WORDS, write_tiny_trunk

_DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU here"))]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny trunk with E5's prefixes."""
    folder = write_tiny_trunk(tmp_path_factory.mktemp("trunk") / "tiny")
    write_manifest(
        folder, name="tiny", pooling="mean", query_prefix="query: ", passage_prefix="passage: "
    )
    return folder


@pytest.fixture(scope="module")
def trunk(folder: Path) -> TextEncoder:
    """The tiny trunk on the CPU."""
    return TextEncoder.load(folder, device="cpu", max_tokens=128)


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    """The packaged MiniLM on the CPU."""
    return TextEncoder.load(device="cpu")


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two CPU threads while a test runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def shared_models() -> Path:
    """The optional folder of larger models."""
    return shared_folder("models")


class _MeanHead:
    """A head of fixed random weights on the mean of all layers."""

    release = "mean-head"
    classes = 3

    def __init__(self, width: int) -> None:
        self.weights = torch.randn(width, 3, generator=torch.Generator().manual_seed(0))

    def probabilities(self, states: TokenStates) -> torch.Tensor:
        mask = states.mask.unsqueeze(-1)
        mean = sum((layer.float() * mask).sum(1) / mask.sum(1) for layer in states.layers)
        scores = (mean.unsqueeze(-1) * self.weights).sum(1)  # type: ignore[union-attr]
        return scores.softmax(-1)

    def to(self, device: torch.device) -> None:
        self.weights = self.weights.to(device)


def _texts(count: int, words: int, seed: int = 0) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS[8:], size=words)) for _ in range(count)]


def test_buckets_are_multiples_of_eight_up_to_the_limit() -> None:
    """A text is padded to the next multiple of 8, and never beyond the limit."""
    assert [bucket_of(n, 100) for n in (1, 8, 9, 96, 97, 100)] == [8, 8, 16, 96, 100, 100]


def test_tokens_hold_special_tokens_and_the_prefix(trunk: TextEncoder) -> None:
    """A query is tokenized as [CLS] query : … [SEP]; Chinese is cut into characters."""
    query, passage = (
        trunk.tokenize(["红色shoes"], "query")[0],
        trunk.tokenize(["bad"], "passage")[0],
    )
    assert " ".join(WORDS[i] for i in query.ids) == "[CLS] query : 红 色 shoe ##s [SEP]"
    assert " ".join(WORDS[i] for i in passage.ids) == "[CLS] passage : bad [SEP]"
    assert query.ids.dtype == np.int32
    assert query.bucket == 8


def test_long_texts_are_cut_with_the_last_token_kept(folder: Path) -> None:
    """A text beyond the limit keeps its [SEP] and fills the last bucket."""
    tokens = TextEncoder.load(folder, max_tokens=20).tokenize(["good " * 500], "query")[0]
    assert (len(tokens.ids), tokens.bucket) == (20, 20)
    assert WORDS[tokens.ids[-1]] == "[SEP]"


def test_limit_is_at_most_what_the_network_has_positions_for(folder: Path) -> None:
    """Asking for more tokens than the network has positions gives the positions."""
    assert TextEncoder.load(folder, max_tokens=4_096).max_tokens == 128


def test_no_texts_give_no_vectors(trunk: TextEncoder) -> None:
    """An empty batch is answered with empty arrays of the right width."""
    found = trunk.encode(trunk.tokenize([], "query"))
    assert found.vectors.shape == (0, 32)


def test_odd_texts_have_unit_vectors(trunk: TextEncoder) -> None:
    """Empty text, blanks, control characters, emoji and lone surrogates' kin all get a vector."""
    texts = ["", "   ", "\x00\x01", "🙂" * 50, "\ufffd", "a" * 5_000, "\n\t", "e\u0301"]
    vectors = trunk.encode(trunk.tokenize(texts, "passage")).vectors
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_are_those_of_transformers(tmp_path: Path, pooling: str) -> None:
    """Each text's vector is what transformers gives for it alone, pooled by the book."""
    folder = write_tiny_trunk(tmp_path / "m", pooling=pooling)
    texts = [*_texts(5, 4), *_texts(5, 40), "很好"]
    trunk = TextEncoder.load(folder, max_tokens=128)
    found = trunk.encode(trunk.tokenize(texts, "query")).vectors
    tokenizer, network = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    for text, vector in zip(texts, found, strict=True):
        with torch.inference_mode():
            states = network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        expected = states[0] if pooling == "cls" else states.mean(0)
        np.testing.assert_allclose(vector, expected / expected.norm(), atol=2e-6)


def test_rows_come_back_in_their_order(trunk: TextEncoder) -> None:
    """Texts of mixed lengths keep their places, whatever bucket they ran in."""
    texts = [text for pair in zip(_texts(9, 30), _texts(9, 3), strict=True) for text in pair]
    tokens = trunk.tokenize(texts, "query")
    together = trunk.encode(tokens).vectors
    for row in (0, 1, 8, 17):
        assert np.array_equal(together[row], trunk.encode([tokens[row]]).vectors[0])


def test_micro_batches_are_of_one_bucket_and_within_the_budget(folder: Path) -> None:
    """No forward pass mixes buckets or runs more tokens than its budget."""
    trunk = TextEncoder.load(folder, max_tokens=128, micro_batch_max_tokens=512)
    shapes: list[tuple[int, int]] = []
    trunk.network.register_forward_pre_hook(
        lambda _module, _args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)),
        with_kwargs=True,
    )
    tokens = trunk.tokenize([*_texts(40, 5), *_texts(7, 60)], "query")
    trunk.encode(tokens)
    assert sum(rows for rows, _ in shapes) == 47
    assert {length for _, length in shapes} == {t.bucket for t in tokens}
    assert all(rows * length <= 512 for rows, length in shapes)


def test_heads_read_only_their_rows_in_the_order_asked(trunk: TextEncoder) -> None:
    """A head's probabilities follow head_rows, repeated rows included."""
    trunk.add_head("mood", _MeanHead(trunk.width))
    tokens = trunk.tokenize([*_texts(6, 4), *_texts(6, 50)], "passage")
    every = trunk.encode(tokens, {"mood": range(12)}).heads["mood"]
    some = trunk.encode(tokens, {"mood": [11, 0, 7, 0]}).heads["mood"]
    np.testing.assert_array_equal(some, every[[11, 0, 7, 0]])
    assert trunk.encode(tokens, {"mood": []}).heads["mood"].shape == (0, 3)
    assert "mood" not in trunk.encode(tokens).heads


def test_a_head_that_was_not_added_is_an_error(trunk: TextEncoder) -> None:
    """Asking for an unknown head raises instead of answering nothing."""
    with pytest.raises(KeyError, match="colour"):
        trunk.encode(trunk.tokenize(["good"], "query"), {"colour": [0]})


def test_asking_a_head_changes_no_vector(trunk: TextEncoder) -> None:
    """Vectors have the same bits with and without heads."""
    trunk.add_head("mood", _MeanHead(trunk.width))
    tokens = trunk.tokenize(_texts(5, 9), "passage")
    plain, read = trunk.encode(tokens).vectors, trunk.encode(tokens, {"mood": [1, 3]}).vectors
    assert plain.tobytes() == read.tobytes()


def test_warm_up_runs_with_heads(trunk: TextEncoder) -> None:
    """Warming up a trunk with heads leaves its answers as they were."""
    trunk.add_head("mood", _MeanHead(trunk.width))
    tokens = trunk.tokenize(_texts(3, 9), "passage")
    before = trunk.encode(tokens, {"mood": [0]})
    trunk.warm_up()
    after = trunk.encode(tokens, {"mood": [0]})
    assert before.vectors.tobytes() == after.vectors.tobytes()
    assert before.heads["mood"].tobytes() == after.heads["mood"].tobytes()


def _same_bits_alone_and_beside_others(trunk: TextEncoder, words: tuple[int, ...]) -> None:
    trunk.add_head("mood", _MeanHead(trunk.width))
    for length in words:
        tokens = trunk.tokenize(_texts(40, length, seed=length), "passage")
        heads = {"mood": range(40)}
        whole = trunk.encode(tokens, heads)
        for first, count in [(0, 1), (39, 1), (3, 2), (5, 3), (8, 7), (0, 13), (20, 20)]:
            part: list[Tokens] = tokens[first : first + count]
            found = trunk.encode(part, {"mood": range(count)})
            rows = slice(first, first + count)
            assert found.vectors.tobytes() == whole.vectors[rows].tobytes(), (length, first, count)
            probabilities = whole.heads["mood"][rows]
            assert found.heads["mood"].tobytes() == probabilities.tobytes(), (length, first, count)


@pytest.mark.parametrize("device", _DEVICES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_text_has_the_same_bits_whatever_stands_beside_it(
    folder: Path, dtype: str, device: str
) -> None:
    """Alone, among few or among many, a text's vector and probabilities are bit for bit equal."""
    trunk = TextEncoder.load(folder, device=device, dtype=dtype, max_tokens=128)
    _same_bits_alone_and_beside_others(trunk, (2, 10, 30, 100))


def test_minilm_gives_the_same_bits_on_two_threads(minilm: TextEncoder, two_threads: None) -> None:
    """The packaged trunk keeps the property with two CPU threads."""
    _same_bits_alone_and_beside_others(minilm, (1, 20))


def test_minilm_ranks_what_means_the_same_first(minilm: TextEncoder) -> None:
    """Sentences that say the same in other words are nearest to each other."""
    pairs = [
        ("wireless headphones with noise cancelling", "bluetooth earphones that block out sound"),
        ("running shoes for women", "ladies' sneakers for jogging"),
        ("how long does delivery take?", "when will my parcel arrive?"),
        ("coffee machine with milk frother", "espresso maker that foams milk"),
    ]
    queries = minilm.encode(minilm.tokenize([a for a, _ in pairs], "query")).vectors
    passages = minilm.encode(minilm.tokenize([b for _, b in pairs], "passage")).vectors
    assert (queries @ passages.T).argmax(axis=1).tolist() == [0, 1, 2, 3]


def test_bilingual_trunk_needs_no_manifest(shared_models: Path) -> None:
    """The bilingual encoder gets E5's prefixes by its name and matches Chinese to Chinese."""
    trunk = TextEncoder.load(shared_models / "multilingual-e5-small-zh-en", device="cpu")
    query = trunk.encode(trunk.tokenize(["红色跑鞋", "咖啡机"], "query")).vectors
    products = trunk.encode(trunk.tokenize(["全自动意式咖啡机", "女款慢跑运动鞋 红"], "passage"))
    assert (query @ products.vectors.T).argmax(axis=1).tolist() == [1, 0]
