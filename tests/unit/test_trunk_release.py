"""Opening a trunk's folder: what is read from it, and what is refused with a clear sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from models.release import MANIFEST, ModelUnavailable, open_trunk, write_manifest
from models.text_encoder import TextEncoder
from tests.support.tiny_trunk import write_tiny_trunk


@pytest.fixture(scope="module")
def stored_trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound tiny trunk; tests that damage it take a copy."""
    return write_tiny_trunk(tmp_path_factory.mktemp("trunk") / "tiny-shop")


@pytest.fixture
def trunk(stored_trunk: Path, tmp_path: Path) -> Path:
    """A copy of the tiny trunk that a test may change."""
    return Path(shutil.copytree(stored_trunk, tmp_path / "tiny-shop"))


def _edit_json(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, **changes}), encoding="utf-8")


def test_packaged_trunk_is_minilm() -> None:
    """An empty model is the MiniLM of the PyPI package, with mean pooling and no prefixes."""
    release = open_trunk("")
    assert release.content_id.startswith("all-minilm-l6-v2@")
    assert (release.pooling, release.query_prefix, release.passage_prefix) == ("mean", "", "")


def test_release_id_names_the_folder_and_its_content(trunk: Path) -> None:
    """The id is the folder's name and a hash that another weight changes."""
    before = open_trunk(trunk).content_id
    write_tiny_trunk(trunk, seed=1)
    after = open_trunk(trunk).content_id
    assert before.startswith("tiny-shop@")
    assert len(before.rpartition("@")[2]) == 8
    assert before != after


def test_release_id_depends_on_prefixes_but_head_binding_does_not(trunk: Path) -> None:
    """Another prefix is another release of vectors; the weights that heads fit stay the same."""
    plain = open_trunk(trunk)
    write_manifest(trunk, name="tiny-shop", pooling="mean", query_prefix="query: ")
    prefixed = open_trunk(trunk)
    assert plain.content_id != prefixed.content_id
    assert plain.weights_checksum == prefixed.weights_checksum


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_pooling_is_read_from_the_sentence_transformers_form(tmp_path: Path, pooling: str) -> None:
    """1_Pooling/config.json decides where there is no manifest."""
    assert open_trunk(write_tiny_trunk(tmp_path / "m", pooling=pooling)).pooling == pooling


def test_unsupported_pooling_is_refused(tmp_path: Path) -> None:
    """Max pooling is named as what cannot be used."""
    with pytest.raises(ModelUnavailable, match="other than mean or cls"):
        open_trunk(write_tiny_trunk(tmp_path / "m", pooling="max"))


def test_manifest_decides_over_the_rest(trunk: Path) -> None:
    """Name, pooling and prefixes come from shopstream.json where there is one."""
    write_manifest(
        trunk, name="shop-zh", pooling="cls", query_prefix="问：", lineage={"base": "tiny"}
    )
    release = open_trunk(trunk)
    assert release.content_id.startswith("shop-zh@")
    assert (release.pooling, release.query_prefix, release.passage_prefix) == ("cls", "问：", "")
    assert release.lineage == {"base": "tiny"}


@pytest.mark.parametrize(
    ("name", "pooling", "query", "passage"),
    [
        ("multilingual-e5-small-zh-en", "mean", "query: ", "passage: "),
        ("e5-base-v2", "mean", "query: ", "passage: "),
        ("bge-small-zh-v1.5", "cls", "为这个句子生成表示以用于检索相关文章：", ""),
        ("we5ton-shop", "mean", "", ""),
    ],
)
def test_known_families_get_their_prefixes(
    tmp_path: Path, name: str, pooling: str, query: str, passage: str
) -> None:
    """A folder that only its name tells about gets the pooling and prefixes of its family."""
    release = open_trunk(write_tiny_trunk(tmp_path / name, pooling=None))
    assert (release.pooling, release.query_prefix, release.passage_prefix) == (
        pooling,
        query,
        passage,
    )


def test_pickled_weights_are_refused(trunk: Path) -> None:
    """A checkpoint that exists only as a pickle is refused by name, never read."""
    (trunk / "model.safetensors").unlink()
    torch.save({"a": torch.zeros(1)}, trunk / "pytorch_model.bin")
    with pytest.raises(ModelUnavailable, match=r"pickle \(pytorch_model\.bin\)"):
        TextEncoder.load(trunk)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_remote_code_is_refused(trunk: Path, file: str) -> None:
    """auto_map in any configuration is refused before anything is loaded."""
    _edit_json(trunk / file, auto_map={"AutoModel": "evil.Model", "AutoTokenizer": "evil.Tok"})
    (trunk / "evil.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    with pytest.raises(ModelUnavailable, match="its own code"):
        TextEncoder.load(trunk)


def test_causal_models_are_refused(trunk: Path) -> None:
    """A type outside the BERT family is refused with the list of types."""
    _edit_json(trunk / "config.json", model_type="gpt2")
    with pytest.raises(ModelUnavailable, match="BERT-family"):
        open_trunk(trunk)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_missing_files_are_named(trunk: Path, file: str) -> None:
    """The sentence names what the folder lacks."""
    (trunk / file).unlink()
    with pytest.raises(ModelUnavailable, match=r"config\.json|model\.safetensors|tokenizer"):
        open_trunk(trunk)


def test_missing_folder_is_said(tmp_path: Path) -> None:
    """A path that does not exist is not looked for on a hub."""
    with pytest.raises(ModelUnavailable, match="no model folder"):
        open_trunk(tmp_path / "nowhere" / "trunk")


@pytest.mark.parametrize("damage", ["cut", "garbled header", "empty"])
def test_damaged_weights_are_refused(trunk: Path, damage: str) -> None:
    """Cut, garbled and empty safetensors end in one sentence that says to copy them again."""
    weights = trunk / "model.safetensors"
    content = weights.read_bytes()
    broken = {
        "cut": content[: len(content) // 2],
        "garbled header": content[:8] + b"{{{{" + content[12:],
        "empty": b"",
    }
    weights.write_bytes(broken[damage])
    with pytest.raises(ModelUnavailable, match="copy the model again"):
        TextEncoder.load(trunk)


def test_flipped_weights_are_found_by_the_manifest(trunk: Path) -> None:
    """One flipped bit in the weights makes the checksum differ from the manifest's."""
    write_manifest(trunk, name="tiny-shop", pooling="mean")
    weights = trunk / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelUnavailable, match="checksums differ"):
        open_trunk(trunk)


def test_weights_that_do_not_fit_are_refused(trunk: Path) -> None:
    """A layer that the weights lack is never filled with random numbers."""
    _edit_json(trunk / "config.json", num_hidden_layers=3)
    with pytest.raises(ModelUnavailable, match="do not fit its config"):
        TextEncoder.load(trunk)


def test_broken_json_is_refused(trunk: Path) -> None:
    """A manifest that is no JSON is named."""
    (trunk / MANIFEST).write_text("{", encoding="utf-8")
    with pytest.raises(ModelUnavailable, match=MANIFEST):
        open_trunk(trunk)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_unknown_devices_are_refused(trunk: Path, device: str) -> None:
    """A device that is not there is named with what to set instead."""
    with pytest.raises(ModelUnavailable, match="SHOPSTREAM_DEVICE"):
        TextEncoder.load(trunk, device=device)
