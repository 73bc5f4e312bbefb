"""Language models learn planted texts from nothing, go on after a break, load where they must."""

from __future__ import annotations

import json
import math
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

import training.loop.trainer
from models.release import MANIFEST, ModelUnavailable
from models.text_encoder import TextEncoder
from tests.support.planted_texts import write_documents, write_questions
from training.data.rows import UnreadableData
from training.language.checkpoints import Shape
from training.language.language_model import Objective
from training.loop.options import LoopOptions, TrainingDiverged, TrainingFailed
from training.pretrain import PretrainOptions, PretrainResult, pretrain

LOOP = LoopOptions(steps=80, batch_rows=16, learning_rate=5e-3, threads=1, cpu=True)


def options(objective: Objective, texts: Path, out: Path, **more: object) -> PretrainOptions:
    known = PretrainOptions(
        objective,
        (texts,),
        out,
        from_scratch=True,
        vocab_size=256,
        shape=Shape(layers=2, width=32, heads=2),
        max_tokens=48,
        loop=LOOP,
    )
    return replace(known, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_documents(tmp_path_factory.mktemp("texts") / "shop.txt", 300)


@pytest.fixture(scope="module")
def masked(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> PretrainResult:
    return pretrain(options("mlm", texts, tmp_path_factory.mktemp("masked") / "shop-bert"))


def test_mlm_from_nothing_learns_the_texts(masked: PretrainResult, texts: Path) -> None:
    """Perplexity of held-out texts falls far below the vocabulary's size, and on with steps."""
    assert masked.after is not None
    assert masked.perplexity == pytest.approx(math.exp(masked.after.value))
    further = options("mlm", texts, masked.out.with_name("further"), model=str(masked.out))
    result = pretrain(replace(further, from_scratch=False))
    assert result.before is not None
    assert result.after is not None
    assert result.before.value == pytest.approx(masked.after.value, abs=1e-4)
    assert masked.after.value < 0.8 * math.log(256)
    assert result.after.high < result.before.value


def test_the_result_is_a_trunk_with_its_language_head(masked: PretrainResult) -> None:
    """AutoModel, AutoModelForMaskedLM and the worker's TextEncoder load it, checksums and all."""
    manifest = json.loads((masked.out / MANIFEST).read_text())
    assert manifest["name"] == "shop-bert"
    assert manifest["lineage"]["options"]["objective"] == "mlm"
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= manifest["checksums"].keys()
    trunk = TextEncoder.load(masked.out, device="cpu", threads=1)
    assert trunk.release.startswith("shop-bert@")
    tokens = trunk.tokenize(["the lamp is bright"], "passage")
    assert trunk.encode(tokens).vectors.shape == (1, 32)
    plain, network = (
        AutoModel.from_pretrained(masked.out),
        AutoModelForMaskedLM.from_pretrained(masked.out),
    )
    tokenizer = AutoTokenizer.from_pretrained(masked.out)
    batch = tokenizer(["the lamp is [MASK]"], return_tensors="pt")
    with torch.no_grad():
        states, inner = plain(**batch), network.base_model(**batch)
    assert torch.allclose(states.last_hidden_state, inner.last_hidden_state, atol=1e-5)
    assert not list(masked.out.parent.glob("*.training"))


def test_nsp_learns_what_follows(tmp_path: Path) -> None:
    """With L_MLM + L_NSP the model tells what follows above chance (three of four can be told)."""
    texts = write_questions(tmp_path / "questions.txt", 600)
    loop = replace(LOOP, steps=100, batch_rows=32)
    result = pretrain(options("mlm-nsp", texts, tmp_path / "out", max_tokens=32, loop=loop))
    assert result.follow_accuracy is not None
    assert result.follow_accuracy.low > 0.5
    assert result.losses["nsp_loss"] < 0.6
    total = result.losses["mlm_loss"] + result.losses["nsp_loss"]
    assert result.losses["loss"] == pytest.approx(total, rel=1e-4)
    TextEncoder.load(tmp_path / "out", device="cpu", threads=1)


def test_clm_learns_and_loads_as_a_causal_model(texts: Path, tmp_path: Path) -> None:
    """A GPT from nothing learns the next token; it is refused as a trunk, with the reason."""
    result = pretrain(options("clm", texts, tmp_path / "gpt", vocab_size=300))
    assert result.after is not None
    assert result.after.value < 0.5 * math.log(300)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "gpt").config.model_type == "gpt2"
    with pytest.raises(ModelUnavailable, match="BERT-family"):
        TextEncoder.load(tmp_path / "gpt", device="cpu")


class _Killed(BaseException):
    """What ends a process in the middle of a training."""


def interrupt(known: PretrainOptions, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a training and end it in the middle of a step."""
    train, done = training.loop.trainer._Trainer.training_step, 0

    def kill(trainer: object, *known: object, **more: object) -> object:
        nonlocal done
        done += 1
        if done == step:
            raise _Killed
        return train(trainer, *known, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(training.loop.trainer._Trainer, "training_step", kill)
        with pytest.raises(_Killed):
            pretrain(known)


def test_a_killed_training_goes_on_as_if_it_had_not_been(
    masked: PretrainResult, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed at a checkpoint, the weights are those of an uninterrupted run, bit for bit."""
    loop = replace(LOOP, steps=24, checkpoint_every_steps=7)
    known = options("mlm", texts, tmp_path / "whole", model=str(masked.out), loop=loop)
    whole = pretrain(replace(known, from_scratch=False))
    broken = replace(known, from_scratch=False, out=tmp_path / "broken")
    interrupt(broken, 18, monkeypatch)
    assert not (tmp_path / "broken").exists()
    with pytest.raises(TrainingFailed, match="another learning_rate"):
        pretrain(replace(broken, loop=replace(loop, learning_rate=1e-3)))
    resumed = pretrain(broken)
    ours, theirs = (load_file(r.out / "model.safetensors") for r in (resumed, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert resumed.after == whole.after


def test_a_killed_start_from_nothing_keeps_its_tokenizer(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokenizer that an interrupted run learnt is the one of the finished model."""
    loop = replace(LOOP, steps=8, checkpoint_every_steps=3)
    known = options("mlm", texts, tmp_path / "out", loop=loop)
    interrupt(known, 5, monkeypatch)
    learnt = (tmp_path / "out.training" / "tokenizer" / "tokenizer.json").read_bytes()
    pretrain(known)
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == learnt
    assert not (tmp_path / "out.training").exists()


def test_a_half_written_checkpoint_is_passed_over(
    masked: PretrainResult, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while it wrote a checkpoint, a training goes on from the one before."""
    loop = replace(LOOP, steps=9, checkpoint_every_steps=3)
    known = options("mlm", texts, tmp_path / "out", model=str(masked.out), loop=loop)
    known = replace(known, from_scratch=False)
    interrupt(known, 8, monkeypatch)
    newest = tmp_path / "out.training" / "checkpoints" / "checkpoint-6"
    (newest / "trainer_state.json").write_text('{"epoch": 1.')
    assert pretrain(known).steps == 9
    TextEncoder.load(tmp_path / "out", device="cpu", threads=1)


@pytest.mark.parametrize("most_bytes", [2_000, 60_000, 250_000])
def test_a_full_disk_is_told_and_leaves_nothing_half(
    masked: PretrainResult, texts: Path, tmp_path: Path, most_bytes: int
) -> None:
    """Where files cannot grow (tokens, a checkpoint, its optimizer), a sentence says so.

    With room again the same command finishes.
    """
    loop = replace(LOOP, steps=4, checkpoint_every_steps=2)
    known = options("mlm", texts, tmp_path / "out", model=str(masked.out), loop=loop)
    known = replace(known, from_scratch=False)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        with pytest.raises(TrainingFailed, match="make room"):
            pretrain(known)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "out").exists()
    assert pretrain(known).steps == 4
    TextEncoder.load(tmp_path / "out", device="cpu", threads=1)


def test_a_loss_that_is_no_number_stops_the_training(texts: Path, tmp_path: Path) -> None:
    """A rate that is far too high ends with what to try, and leaves no model."""
    loop = replace(LOOP, learning_rate=1e30, warmup_share=0.0, max_gradient_norm=0.0)
    with pytest.raises(TrainingDiverged, match="lower --learning-rate"):
        pretrain(options("mlm", texts, tmp_path / "out", loop=loop))
    assert not (tmp_path / "out").exists()


def test_lora_is_merged_and_leaves_the_embeddings(masked: PretrainResult, texts: Path) -> None:
    """Adapters change the layers and not the embeddings, and are gone from what is saved."""
    loop = replace(LOOP, lora_rank=4, steps=30, learning_rate=2e-2)
    out = masked.out.with_name("lora")
    known = options("mlm", texts, out, model=str(masked.out), loop=loop)
    result = pretrain(replace(known, from_scratch=False))
    assert result.before is not None
    assert result.after is not None
    assert result.after.value < result.before.value
    before, after = (load_file(f / "model.safetensors") for f in (masked.out, out))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "bert.encoder.layer.0.attention.self.query.weight" in changed
    assert "bert.embeddings.word_embeddings.weight" not in changed


def test_a_trunk_without_a_language_head_gets_one(texts: Path, tmp_path: Path) -> None:
    """A sentence encoder has no MLM head: one is learnt first, the trunk held still."""
    from tests.support.tiny_trunk import write_tiny_trunk

    trunk = write_tiny_trunk(tmp_path / "tiny")
    known = options("mlm", texts, tmp_path / "out", model=str(trunk), head_steps=40)
    result = pretrain(replace(known, from_scratch=False, loop=replace(LOOP, steps=20)))
    assert result.before is None
    assert result.after is not None
    TextEncoder.load(tmp_path / "out", device="cpu", threads=1)
    again = replace(known, from_scratch=False, model=str(tmp_path / "out"), out=tmp_path / "next")
    assert pretrain(replace(again, loop=replace(LOOP, steps=2))).before is not None


@pytest.mark.parametrize(
    ("objective", "text", "message"),
    [
        ("mlm", "\n\n", "no text to learn from"),
        ("mlm-nsp", "one sentence alone\nanother one\n", "two sentences"),
        ("clm", "", "no text to learn from"),
    ],
)
def test_too_little_text_is_told(
    tmp_path: Path, objective: Objective, text: str, message: str
) -> None:
    """Nothing to learn from ends with a sentence, before any training."""
    path = tmp_path / "few.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UnreadableData, match=message):
        pretrain(options(objective, path, tmp_path / "out"))


def test_a_folder_that_is_not_ours_is_left_alone(texts: Path, tmp_path: Path) -> None:
    """A folder that holds something else is refused and not touched."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letters.txt").write_text("mine")
    with pytest.raises(TrainingFailed, match="not empty"):
        pretrain(options("mlm", texts, tmp_path / "out"))
    assert (tmp_path / "out" / "letters.txt").read_text() == "mine"
