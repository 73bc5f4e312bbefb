"""The recommender's network: what it may see, what it must not, and how it is kept on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from models.learnt.event_attribution import event_weights, run_with_parts
from models.learnt.files import load_recommender, save_recommender
from models.learnt.history_batch import PaddedEvents
from models.recommender import (
    UNKNOWN_ITEM,
    Convolution,
    HistoryBatch,
    RecommenderConfig,
    RecommenderNetwork,
)
from models.release import ModelUnavailable

CONFIG = RecommenderConfig(
    items=50, text_width=24, width=32, blocks=2, hidden=48, max_events=40, gap_buckets=20
)
LENGTHS = (0, 1, 5, 15, 16, 17, 39, 40, 60, 3, 3)


def network(config: RecommenderConfig = CONFIG) -> RecommenderNetwork:
    torch.manual_seed(0)
    built = RecommenderNetwork(config).eval()
    for parameter in built.parameters():  # as far from the start as training would bring it
        parameter.data += 0.1 * torch.randn_like(parameter)
    return built.requires_grad_(False)


def histories(lengths: tuple[int, ...] = LENGTHS, width: int = 24, seed: int = 1) -> HistoryBatch:
    draw, events = torch.Generator().manual_seed(seed), sum(lengths)
    return HistoryBatch(
        lengths=torch.tensor(lengths),
        kinds=torch.randint(1, 6, (events,), generator=draw),
        item_rows=torch.randint(-1, 50, (events,), generator=draw),
        vectors=torch.randn(events, width, generator=draw),
        gaps_s=torch.rand(events, generator=draw) * 1e6,
        stars=torch.randint(0, 6, (events,), generator=draw).float(),
    )


def part(batch: HistoryBatch, start: int, end: int) -> HistoryBatch:
    return HistoryBatch(
        torch.tensor([end - start]),
        batch.kinds[start:end],
        batch.item_rows[start:end],
        batch.vectors[start:end],
        batch.gaps_s[start:end],
        batch.stars[start:end],
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("text_width", [0, 24])
@pytest.mark.parametrize("temperature", [0.0, 0.05])
def test_bits_of_a_history_do_not_depend_on_its_neighbours(
    dtype: torch.dtype, text_width: int, temperature: float
) -> None:
    """A shopper's vector has the same bits alone and in a batch of any lengths."""
    built = network(replace(CONFIG, text_width=text_width, temperature=temperature)).to(dtype)
    batch = histories(width=text_width)
    together = built.encode_histories(batch)
    start = 0
    for row, length in enumerate(LENGTHS):
        alone = built.encode_histories(part(batch, start, start + length))
        assert torch.equal(alone[0], together[row]), f"history of {length} events"
        start += length


def test_bits_of_an_item_do_not_depend_on_its_neighbours() -> None:
    """An item's vector has the same bits alone and among all."""
    built, texts = network(), torch.randn(50, 24)
    every = built.encode_items(None, texts)
    for row in (0, 17, 49):
        assert torch.equal(built.encode_items(torch.tensor([row]), texts[[row]])[0], every[row])


def test_a_state_knows_nothing_of_later_events() -> None:
    """The states of a history's first events stay the same whatever follows."""
    built, batch = network(), histories((30,))
    changed = replace(batch, item_rows=batch.item_rows.clone(), kinds=batch.kinds.clone())
    changed.item_rows[20:] = 7
    changed.kinds[20:] = 2
    from models.learnt.history_batch import padded_buckets

    states = []
    for each in (batch, changed):
        ((_, events),) = padded_buckets(each, CONFIG.max_events, CONFIG.gap_buckets)
        inputs = built.item_inputs(each.item_rows, each.vectors)
        states.append(built.run(events, inputs)[0])
    assert torch.equal(states[0][:21], states[1][:21])  # start token and 20 events
    assert not torch.allclose(states[0][21], states[1][21])


@pytest.mark.parametrize("field", ["kinds", "item_rows", "vectors", "gaps_s", "stars"])
def test_every_field_of_an_event_counts(field: str) -> None:
    """Type, item, vector, gap and stars of an earlier event each change the shopper's vector."""
    built, batch = network(), histories((8,))
    batch.kinds[:] = 1
    values = getattr(batch, field).clone()
    values[3] = {"kinds": 3, "item_rows": 11, "vectors": 0.5, "gaps_s": 3.0, "stars": 1}[field]
    if field == "stars":
        batch.stars[3] = 5
    changed = replace(batch, **{field: values})
    assert not torch.allclose(built.encode_histories(batch), built.encode_histories(changed))


def test_only_the_newest_events_are_read() -> None:
    """A history beyond `max_events` gives the vector of its newest ones."""
    built, batch = network(), histories((60,))
    newest = part(batch, 20, 60)
    assert torch.equal(built.encode_histories(batch), built.encode_histories(newest))


def test_an_unseen_item_lives_from_its_text() -> None:
    """Two unseen items with different texts differ, and one is where its text puts it."""
    built, texts = network(), torch.randn(2, 24)
    unseen = built.encode_items(torch.tensor([UNKNOWN_ITEM, UNKNOWN_ITEM]), texts)
    assert not torch.allclose(unseen[0], unseen[1])
    assert torch.allclose(unseen, texts @ built.text_projection.weight.T, atol=1e-5)
    known = built.encode_items(torch.tensor([3, 3]), texts)
    assert torch.allclose(known - unseen, built.item_embedding.weight[[3, 3]], atol=1e-5)


def test_training_knows_some_items_by_text_alone() -> None:
    """With an id dropout, a training step drops the learnt part of about that share of items."""
    built = network(replace(CONFIG, items=2_000, id_dropout=0.25)).train()
    texts = torch.zeros(2_000, 24)
    dropped = (built.encode_items(None, texts) == 0).all(1).float().mean()
    assert 0.2 < float(dropped) < 0.3


def test_weights_of_events_add_up_to_what_attention_wrote() -> None:
    """An event's weight is item-specific, and with one block all weights explain the score."""
    config = replace(CONFIG, blocks=1)
    built, batch = network(config), histories((12,))
    built.blocks[0].hidden_out.weight.zero_()  # leave attention as all that writes
    built.blocks[0].hidden_out.bias.zero_()
    built.blocks[0].attention_out.bias.zero_()
    built.norm.bias.data.zero_()
    items = built.encode_items(torch.tensor([1, 2, 3]), torch.randn(3, 24)).unsqueeze(0)
    (weights,) = event_weights(built, batch, items)
    assert weights.shape == (3, 12)
    scores = (built.encode_histories(batch).unsqueeze(1) * items).sum(-1)[0]
    start = scores - weights.sum(-1)  # what the start token gave
    without_start = histories((12,))
    assert not torch.allclose(weights[0], weights[1])
    written = run_with_parts(built, *_bucket(built, without_start))[1][0]
    assert torch.allclose(start, written[0] @ items[0].T, atol=1e-4)


def _bucket(built: RecommenderNetwork, batch: HistoryBatch) -> tuple[PaddedEvents, torch.Tensor]:
    from models.learnt.history_batch import padded_buckets

    ((_, events),) = padded_buckets(batch, CONFIG.max_events, CONFIG.gap_buckets)
    return events, built.item_inputs(batch.item_rows, batch.vectors)


def test_gpu_and_cpu_attention_are_the_same() -> None:
    """The fused attention that GPUs take gives what the written-out one gives."""
    built = network().blocks[0]
    q, k, v, _ = built.project(torch.randn(3, 32, 32))
    places = torch.arange(32)
    behind = places.unsqueeze(1) - places
    mask = torch.zeros(32, 32).masked_fill(behind < 0, -torch.inf)
    bias = built.bias(behind.clamp(min=0), mask)
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    assert torch.allclose(built.probabilities(q, k, bias) @ v, fused, atol=1e-5)


def test_files_give_the_same_network(tmp_path: Path) -> None:
    """A recommender read back has the same ids and gives the same bits."""
    built, ids = network(), [f"p{row}" for row in range(49)] + ["zeilen\numbruch"]
    save_recommender(tmp_path / "r", built, ids, {"seed": 7})
    read = load_recommender(tmp_path / "r")
    assert read.item_ids == ids
    assert read.lineage == {"seed": 7}
    assert torch.equal(
        read.network.encode_histories(histories()), built.encode_histories(histories())
    )


def test_folders_of_before_are_read_as_what_they_are(tmp_path: Path) -> None:
    """A folder that names no convolution, successors or neighbours is a network without them."""
    old = replace(CONFIG, convolution=1, successors=0, neighbours=0)
    built = network(old)
    save_recommender(tmp_path, built, [str(row) for row in range(50)])
    described = json.loads((tmp_path / "config.json").read_text("utf-8"))
    for name in ("convolution", "successors", "neighbours"):
        del described["network"][name]
    (tmp_path / "config.json").write_text(json.dumps(described), "utf-8")
    read = load_recommender(tmp_path).network
    assert read.config == old
    assert torch.equal(read.encode_histories(histories()), built.encode_histories(histories()))


def test_the_convolution_mixes_the_events_just_before() -> None:
    """It begins as the identity; each weight tells how much of which earlier event is added."""
    mix, x = Convolution(4, 3), torch.randn(2, 7, 4)
    assert torch.equal(mix(x), x)
    weight = torch.randn(4, 3)
    mix.weight.data.copy_(weight)
    mixed = mix(x)
    for place in range(7):
        expected = x[:, place].clone()
        for back in range(min(3, place + 1)):
            expected += x[:, place - back] * weight[:, 2 - back]
        torch.testing.assert_close(mixed[:, place], expected)


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    """A folder that is empty, cut short or of another shape is refused with what to do."""
    with pytest.raises(ModelUnavailable, match="train recommender"):
        load_recommender(tmp_path)
    save_recommender(tmp_path, network(), [str(row) for row in range(50)])
    items = (tmp_path / "items.txt").read_text("utf-8")
    (tmp_path / "items.txt").write_text(items[:-5], "utf-8")
    with pytest.raises(ModelUnavailable, match="49 items"):
        load_recommender(tmp_path)
    (tmp_path / "items.txt").write_text(items, "utf-8")
    save_file({"norm.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelUnavailable, match="does not fit"):
        load_recommender(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(ModelUnavailable, match="no whole recommender"):
        load_recommender(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"items": 0},
        {"heads": 3},
        {"dropout": 1.0},
        {"temperature": -1.0},
        {"successors": -1},
        {"neighbours": -1},
        {"convolution": 0},
    ],
)
def test_impossible_shapes_are_refused(wrong: dict[str, float]) -> None:
    """A shape that cannot be is refused when it is named."""
    with pytest.raises(ValueError, match=r"\w"):
        replace(CONFIG, **wrong)


def test_pooled_dropout_keeps_the_mean_and_follows_the_seed() -> None:
    """Masks drop the share asked for, scale the rest, and the global seed fixes them."""
    from models.learnt.pooled_dropout import PooledDropout

    dropout, ones = PooledDropout(0.3).train(), torch.ones(200, 300)
    torch.manual_seed(3)
    first, second = dropout(ones), dropout(ones)
    torch.manual_seed(3)
    assert torch.equal(dropout(ones), first)
    assert not torch.equal(first, second)
    assert abs(float(first.mean()) - 1) < 0.02
    assert np.isclose(float((first == 0).float().mean()), 0.3, atol=0.01)
    assert torch.equal(dropout.eval()(ones), ones)
