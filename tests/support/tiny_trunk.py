"""A tiny random BERT on disk: two layers of 32, a WordPiece vocabulary of English and Chinese."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_ENGLISH = (
    "query passage : the a is good bad shoe ##s red blue run ##ning cheap broke after one day"
)
_CHINESE = "好坏鞋红色的很质量便宜我喜欢"
WORDS = [*_SPECIAL, *_ENGLISH.split(" "), *_CHINESE]


def write_tiny_trunk(
    folder: Path, *, seed: int = 0, pooling: str | None = "mean", positions: int = 128
) -> Path:
    """Write the trunk into `folder` as a sentence-transformers folder would be; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=positions,
        initializer_range=0.5,  # wide enough that different texts get different vectors
    )
    BertModel(config).save_pretrained(folder, safe_serialization=True)
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    word_piece = BertWordPieceTokenizer(vocabulary, lowercase=True)
    PreTrainedTokenizerFast(
        tokenizer_object=word_piece._tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=positions,
    ).save_pretrained(folder)
    if pooling is not None:
        (folder / "1_Pooling").mkdir(exist_ok=True)
        modes = {f"pooling_mode_{mode}": mode.startswith(pooling) for mode in _MODES}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes), encoding="utf-8")
    return folder


_MODES = ("cls_token", "mean_tokens", "max_tokens")
