"""A release from its folder into memory, and what it must show before it may serve."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.release import open_trunk, same_trunk
from models.releases.folder import ReleaseParts, assemble_release, seal_release
from models.releases.manifest import ReleaseManifest
from models.search.product_vectors import save_product_vectors
from models.text.sentiment import load
from models.text_encoder import TextEncoder
from tests.support.tiny_release import write_tiny_head, write_tiny_release
from tests.support.tiny_trunk import write_tiny_trunk
from worker.flow.loading import LoadedModels, ModelsUnavailable, load_models, load_release
from worker.flow.release.check import require_heads, require_memory, require_sense
from worker.settings import Settings

SETTINGS = Settings(model="null")


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedModels:
    """A tiny release that serves."""
    trunk = write_tiny_trunk(tmp_path / "trunk")
    write_tiny_release(tmp_path / "first", trunk=trunk, seed=1, name="first")
    return load_release(SETTINGS, tmp_path / "first")


def test_a_release_of_the_same_trunk_uses_the_weights_in_memory(
    loaded: LoadedModels, tmp_path: Path
) -> None:
    """Other heads, another name: the network is shared, the heads are not."""
    write_tiny_release(tmp_path / "second", trunk=tmp_path / "trunk", seed=2, name="second")
    second = load_release(SETTINGS, tmp_path / "second", loaded.models.trunk)
    ours, theirs = loaded.models.trunk, second.models.trunk
    assert isinstance(ours, TextEncoder)
    assert isinstance(theirs, TextEncoder)
    assert ours.network is theirs.network
    assert ours.heads["sentiment"] is not theirs.heads["sentiment"]
    assert second.models.release.startswith("second-")
    assert theirs.release.startswith("second@")
    assert same_trunk(ours.release, theirs.release)


def test_another_trunk_is_loaded_anew(loaded: LoadedModels, tmp_path: Path) -> None:
    """Weights are shared only where they are the same."""
    other = write_tiny_trunk(tmp_path / "other", seed=5)
    write_tiny_release(tmp_path / "third", trunk=other, seed=2, name="first")
    third = load_release(SETTINGS, tmp_path / "third", loaded.models.trunk)
    assert isinstance(third.models.trunk, TextEncoder)
    assert isinstance(loaded.models.trunk, TextEncoder)
    assert third.models.trunk.network is not loaded.models.trunk.network
    assert not same_trunk(third.models.trunk.release, loaded.models.trunk.release)


def test_a_head_of_another_trunk_is_refused(tmp_path: Path) -> None:
    """A head reads the states it was trained on, or none."""
    trunk = write_tiny_trunk(tmp_path / "trunk")
    head = write_tiny_head(tmp_path / "head", trunk_weights="f" * 64)
    assemble_release(tmp_path / "bad", ReleaseParts(trunk=trunk, heads={"sentiment": head}))
    seal_release(tmp_path / "bad", ReleaseManifest(name="bad"), trunk=trunk)
    with pytest.raises(ModelsUnavailable, match="another trunk"):
        load_release(SETTINGS, tmp_path / "bad")


def test_the_head_beside_a_plain_trunk_is_used(tmp_path: Path) -> None:
    """A folder that `train sentiment` wrote serves its own head, unless another one is set."""
    trunk = write_tiny_trunk(tmp_path / "trunk")
    plain = SETTINGS.model_copy(update={"model": str(trunk), "device": "cpu"})
    assert not load_models(plain).models.has_sentiment
    weights = open_trunk(trunk).weights_checksum
    write_tiny_head(trunk / "heads" / "sentiment", seed=1, trunk_weights=weights)
    beside = load_models(plain).models
    assert beside.has_sentiment
    other = write_tiny_head(tmp_path / "other", seed=2, trunk_weights=weights)
    chosen = load_models(plain.model_copy(update={"sentiment_head": other})).models
    assert isinstance(beside.trunk, TextEncoder)
    assert isinstance(chosen.trunk, TextEncoder)
    heads = [one.trunk.heads["sentiment"].release for one in (beside, chosen)]
    assert heads == [load(trunk / "heads" / "sentiment").release, load(other).release]
    write_tiny_head(trunk / "heads" / "sentiment", seed=3, trunk_weights="f" * 64)
    with pytest.raises(ModelsUnavailable, match="another trunk"):
        load_models(plain)


def test_product_vectors_of_another_trunk_are_refused(tmp_path: Path) -> None:
    """A release's vectors serve the trunk that made them; those cut elsewhere are not used."""
    first, second = (write_tiny_trunk(tmp_path / f"t{seed}", seed=seed) for seed in (1, 2))
    maker = TextEncoder.load(first, device="cpu", max_tokens=64)
    vectors = maker.encode(maker.tokenize(["red shoe"], "passage")).vectors
    save_product_vectors(tmp_path / "vectors", maker, ["red shoe"], vectors)

    def release(trunk: Path, max_tokens: int) -> LoadedModels:
        target = tmp_path / f"{trunk.name}-{max_tokens}"
        parts = ReleaseParts(trunk=trunk, product_vectors=tmp_path / "vectors")
        assemble_release(target, parts)
        seal_release(target, ReleaseManifest(name="named"), trunk=trunk)
        cut = SETTINGS.model_copy(update={"device": "cpu", "max_text_tokens": max_tokens})
        return load_release(cut, target)

    known = release(first, 64).product_vectors
    assert known is not None
    assert sorted(known.find(["red shoe", "blue shoe"])) == [0]
    assert release(first, 32).product_vectors is None
    with pytest.raises(ModelsUnavailable, match="holds vectors of the trunk t1@"):
        release(second, 64)


def test_numbers_that_are_not_finite_are_refused(loaded: LoadedModels) -> None:
    """A trunk or a head whose training blew up must not serve, though its files are whole."""
    require_sense(loaded.models)
    trunk = loaded.models.trunk
    assert isinstance(trunk, TextEncoder)
    head = trunk.heads["sentiment"]
    assert isinstance(head, torch.nn.Module)
    with torch.no_grad():
        head.output.bias.fill_(float("nan"))
    with pytest.raises(ModelsUnavailable, match="'sentiment' gives no probabilities"):
        require_sense(loaded.models)
    with torch.no_grad():
        next(trunk.network.parameters()).fill_(float("nan"))
    with pytest.raises(ModelsUnavailable, match="not finite unit vectors"):
        require_sense(loaded.models)


def test_what_lacks_a_head_or_room_is_refused(loaded: LoadedModels) -> None:
    """A release must do what the one before did, and fit beside it."""
    without = replace(loaded.models, has_sentiment=False)
    with pytest.raises(ModelsUnavailable, match="no sentiment head"):
        require_heads(loaded.models, without)
    require_heads(without, without)
    huge = ReleaseManifest(sizes_bytes={"model.safetensors": 10**15})
    with pytest.raises(ModelsUnavailable, match="give the worker more"):
        require_memory(huge, "cpu")
    require_memory(ReleaseManifest(sizes_bytes={"model.safetensors": 10}), "cpu")
