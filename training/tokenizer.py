"""A tokenizer learnt from the shop's own texts, for a language model that starts from nothing.

Masked models get WordPiece (Devlin et al. 2019, arXiv 1810.04805): Chinese characters stand alone,
other words fall into pieces. Causal models get byte-level BPE (Radford et al. 2019): no text is
unknown to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing

PAD, UNKNOWN, FIRST, BETWEEN, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
END = "<|endoftext|>"
TokenizerKind = Literal["masked", "causal"]
# A vocabulary must at least spell: the special tokens, the letters, and some pieces of words.
MIN_VOCABULARY = 128


def train_tokenizer(
    texts: Iterable[str], kind: TokenizerKind, *, vocab_size: int, max_tokens: int
) -> Any:
    """Return a `transformers` tokenizer learnt from the texts.

    Args:
        texts: read once, one at a time.
        vocab_size: at most so many tokens; a small set of texts gives fewer.
        max_tokens: what the model can read, special tokens included.
    """
    from transformers import PreTrainedTokenizerFast

    if kind == "masked":
        tokenizer = _word_pieces(texts, vocab_size)
        inputs = ["input_ids", "token_type_ids", "attention_mask"]
        special = {
            "unk_token": UNKNOWN, "pad_token": PAD, "cls_token": FIRST, "sep_token": BETWEEN,
            "mask_token": MASK,
        }  # fmt: skip
    else:
        tokenizer = _byte_pairs(texts, vocab_size)
        inputs = ["input_ids", "attention_mask"]
        special = {"bos_token": END, "eos_token": END, "pad_token": PAD}
    factory: Any = PreTrainedTokenizerFast
    return factory(
        tokenizer_object=tokenizer,
        model_max_length=max_tokens,
        model_input_names=inputs,
        **special,
    )


def _word_pieces(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = [PAD, UNKNOWN, FIRST, BETWEEN, MASK]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=special, min_frequency=2, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = TemplateProcessing(
        single=f"{FIRST} $A {BETWEEN}",
        pair=f"{FIRST} $A {BETWEEN} $B:1 {BETWEEN}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (FIRST, BETWEEN)],
    )
    return tokenizer


def _byte_pairs(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer
