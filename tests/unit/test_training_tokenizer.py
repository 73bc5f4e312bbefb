"""Tokenizers learnt from texts, and the examples that are made with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from training.language.examples import SAME, SentencePairs, TextBlocks
from training.language.masking import IGNORED, MaskRule
from training.language.reading import read_into_stores
from training.loop.schedule import Draw
from training.tokenizer import train_tokenizer

TEXTS = [f"The lamp number {n} is bright. I like it. 这盏灯{n}很亮。我喜欢它。" for n in range(60)]


def test_word_pieces_know_the_texts() -> None:
    """A masked model's tokenizer spells the texts without unknown tokens, Chinese by characters."""
    tokenizer = train_tokenizer(iter(TEXTS), "masked", vocab_size=200, max_tokens=64)
    ids = tokenizer(TEXTS[0]).input_ids
    assert tokenizer.unk_token_id not in ids
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert {"灯", "亮"} <= set(tokenizer.tokenize(TEXTS[0]))
    pair = tokenizer("lamp", "bright")
    assert pair.token_type_ids[-1] == 1
    assert len(tokenizer) <= 200


def test_byte_pairs_know_every_text() -> None:
    """A causal model's tokenizer gives back any text, also one it never saw."""
    tokenizer = train_tokenizer(iter(TEXTS), "causal", vocab_size=400, max_tokens=64)
    unseen = "Größe → 全新 🎁"
    assert tokenizer.decode(tokenizer(unseen).input_ids) == unseen


def test_long_texts_become_pieces_and_nothing_is_lost(tmp_path: Path) -> None:
    """A text longer than an example is cut into several; only a tail of a few tokens may go."""
    tokenizer = train_tokenizer(iter(TEXTS), "masked", vocab_size=200, max_tokens=16)
    long = " ".join(TEXTS[:5])
    read = read_into_stores([long], tokenizer, "mlm", tmp_path, max_tokens=16, whole_words=True)
    store = read.train if len(read.train) else read.held_out
    whole = tokenizer.backend_tokenizer.encode(long, add_special_tokens=False).ids
    assert store.lengths.max() == 14
    assert len(whole) - 3 <= len(store.ids) <= len(whole)
    assert store.ids.tolist() == whole[: len(store.ids)]
    assert all(store[row].words[0] == 1 for row in range(len(store)))


def test_half_of_the_sentence_pairs_follow(tmp_path: Path) -> None:
    """A pair is a sentence with its next one, or with one of another text; labels say which."""
    tokenizer = train_tokenizer(iter(TEXTS), "masked", vocab_size=200, max_tokens=48)
    read = read_into_stores(TEXTS, tokenizer, "mlm-nsp", tmp_path, max_tokens=48, whole_words=False)
    rule = MaskRule(tokenizer.mask_token_id, len(tokenizer), rate=0.15)
    pairs = SentencePairs(read.train, tokenizer, rule, 48)
    draws = [Draw(row % len(pairs), row // len(pairs), 1) for row in range(400)]
    batch = pairs.batch(draws)
    share = float((batch["follows"] == SAME).float().mean())
    assert 0.42 < share < 0.58
    true = torch.where(batch["labels"] != IGNORED, batch["labels"], batch["input_ids"])
    texts = tokenizer.batch_decode(true, skip_special_tokens=False)
    first_true = next(t for t, label in zip(texts, batch["follows"], strict=True) if label == SAME)
    assert first_true.count("[SEP]") == 2
    second = batch["token_type_ids"].bool() & batch["attention_mask"].bool()
    assert second.any(1).all()
    again = pairs.batch(draws)
    assert all(torch.equal(batch[name], again[name]) for name in batch)


def test_blocks_hold_all_texts_in_a_row(tmp_path: Path) -> None:
    """CLM reads equal blocks without padding, an end token between texts."""
    tokenizer = train_tokenizer(iter(TEXTS), "causal", vocab_size=400, max_tokens=32)
    read = read_into_stores(TEXTS, tokenizer, "clm", tmp_path, max_tokens=32, whole_words=False)
    blocks = TextBlocks(read.train, 32)
    batch = blocks.batch([Draw(row, 0, 0) for row in range(len(blocks))])
    assert batch["input_ids"].shape == (len(blocks), 32)
    assert bool(batch["attention_mask"].all())
    ends = int((np.asarray(read.train.ids) == tokenizer.eos_token_id).sum())
    assert ends == len(read.train)
    joined = batch["input_ids"].reshape(-1).tolist()
    assert joined == read.train.ids[: len(joined)].tolist()
