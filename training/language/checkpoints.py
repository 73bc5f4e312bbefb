"""Opens a language model to go on with, or makes an untrained one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.release import ENCODER_TYPES, ModelUnavailable, TrunkRelease, open_trunk
from models.text.checkpoint import load_tokenizer, token_limit
from training.language.language_model import LanguageModel, Objective, language_head
from training.tokenizer import END


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a model from nothing is."""

    layers: int = 4
    width: int = 256
    heads: int = 4


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A language model with its tokenizer, and what is known of where it came from."""

    language_model: LanguageModel
    tokenizer: Any
    max_tokens: int
    source: TrunkRelease | None  # None: a causal model, or one from nothing
    name: str
    new_head: bool  # the checkpoint had no language head: it must be learnt first


def open_masked(model: str | Path, objective: Objective, max_tokens: int) -> OpenedModel:
    """Open a BERT-family checkpoint (folder, hub id, empty: the packaged MiniLM) with its MLM head.

    A checkpoint without a head (a sentence encoder) gets one that begins as the identity, tied to
    the word embeddings. Raises ModelUnavailable.
    """
    from transformers import AutoModelForMaskedLM, AutoModelForPreTraining

    release = open_trunk(model)
    factory = AutoModelForPreTraining if objective == "mlm-nsp" else AutoModelForMaskedLM
    network, info = _load(factory, release.folder)
    tokenizer = load_tokenizer(release)
    if objective == "mlm-nsp" and not hasattr(getattr(network, "cls", None), "seq_relationship"):
        raise ModelUnavailable(
            f"{release.name} has no next-sentence head (only BERT's own type has): use `mlm`"
        )
    _refuse_missing_trunk(release, network, info["missing_keys"])
    new_head = _lacks_head(network, info["missing_keys"])
    if new_head:
        begin_as_identity(language_head(network))
    limit = min(max_tokens, token_limit(network, tokenizer))
    name = release.name
    return OpenedModel(LanguageModel(network, objective), tokenizer, limit, release, name, new_head)


def open_causal(model: str | Path, max_tokens: int) -> OpenedModel:
    """Open a causal (GPT-style) checkpoint by folder or hub id; raises ModelUnavailable."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    if not str(model):
        raise ModelUnavailable("no causal model is packaged: name one with --model, or start one "
                               "with --from-scratch")  # fmt: skip
    try:
        config = AutoConfig.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelUnavailable(
            f"{model} is no folder or hub id of a model that transformers knows: check the name, "
            "or give a folder"
        ) from error
    if config.model_type in ENCODER_TYPES:
        raise ModelUnavailable(
            f"{model} is of type {config.model_type!r}, which reads both sides of a token: use a "
            "causal model (GPT-2, Qwen …), or the objective mlm"
        )
    network, _ = _load(AutoModelForCausalLM, model)
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    limit = min(max_tokens, token_limit(network, tokenizer))
    name = Path(str(model)).name
    return OpenedModel(LanguageModel(network, "clm"), tokenizer, limit, None, name, False)


def new_model(
    tokenizer: Any, objective: Objective, shape: Shape, max_tokens: int, seed: int
) -> OpenedModel:
    """Return an untrained BERT or GPT-2 of this shape for the tokenizer's vocabulary."""
    from transformers import (
        BertConfig,
        BertForMaskedLM,
        BertForPreTraining,
        GPT2Config,
        GPT2LMHeadModel,
    )

    if shape.width % shape.heads:
        raise ModelUnavailable(
            f"a width of {shape.width} cannot be shared by {shape.heads} heads: choose a multiple"
        )
    torch.manual_seed(seed)
    network: nn.Module
    if objective == "clm":
        end = tokenizer.convert_tokens_to_ids(END)
        network = GPT2LMHeadModel(  # type: ignore[no-untyped-call]
            GPT2Config(
                vocab_size=len(tokenizer), n_positions=max_tokens, n_embd=shape.width,
                n_layer=shape.layers, n_head=shape.heads, bos_token_id=end, eos_token_id=end,
                pad_token_id=tokenizer.pad_token_id,
            )
        )  # fmt: skip
    else:
        config = BertConfig(
            vocab_size=len(tokenizer), hidden_size=shape.width, num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads, intermediate_size=4 * shape.width,
            max_position_embeddings=max_tokens, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        network = (BertForPreTraining if objective == "mlm-nsp" else BertForMaskedLM)(config)
    return OpenedModel(
        LanguageModel(network, objective), tokenizer, max_tokens, None, "scratch", False
    )


def begin_as_identity(head: nn.Module) -> None:
    """Let a new language head pass states on as they are, instead of through random numbers."""
    with torch.no_grad():
        for module in head.modules():
            if isinstance(module, nn.Linear) and module.in_features == module.out_features:
                module.weight.copy_(torch.eye(module.in_features))
                if module.bias is not None:
                    module.bias.zero_()


def _load(factory: Any, folder: str | Path) -> tuple[Any, dict[str, Any]]:
    from models.text.checkpoint import quiet_transformers

    try:
        with quiet_transformers():
            network, info = factory.from_pretrained(
                folder,
                use_safetensors=True,
                trust_remote_code=False,
                attn_implementation="sdpa",
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:  # the loaders raise many kinds for damaged or foreign files
        raise ModelUnavailable(
            f"the language model in {folder} cannot be loaded "
            f"({str(error).strip().splitlines()[0][:200]}): check the folder or the name"
        ) from error
    return network, info


def _lacks_head(network: Any, missing: Iterable[str]) -> bool:
    """Say whether weights of the language head are new; a tied decoder and biases may be."""
    prefix = f"{network.base_model_prefix}."
    known = ("decoder.", "seq_relationship.", "vocab_projector.")
    return any(
        key.endswith(".weight") and not key.startswith(prefix) and not any(k in key for k in known)
        for key in missing
    )


def _refuse_missing_trunk(release: TrunkRelease, network: Any, missing: Iterable[str]) -> None:
    prefix = f"{network.base_model_prefix}."
    lost = [key for key in sorted(missing) if key.startswith(prefix) and "pooler." not in key]
    if lost:
        raise ModelUnavailable(
            f"the weights in {release.folder} do not fit its config.json ({lost[0]}): copy the "
            "model again"
        )
