"""Fine-tuning a trunk for a task without losing the language: L = L_pretrain + α·L_task.

Each step draws a batch of the task and a batch of texts; the two losses are added and one optimiser
step follows. α = 0 learns texts alone, α = inf the task alone.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from training.data.reviews import part_of
from training.data.rows import UnreadableData
from training.language.checkpoints import OpenedModel
from training.language.examples import CausalTexts, Examples, MaskedTexts
from training.language.masking import MaskRule
from training.language.token_store import TokenStore, TokenWriter
from training.language.words import token_numbers, word_numbers
from training.loop.adapters import add_adapters
from training.loop.joint import JointModel, Task, warm_up_head
from training.loop.options import LoopOptions
from training.loop.schedule import Schedule, steps_of
from training.loop.trainer import run_loop
from training.loop.workplace import Workplace, loop_plan

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FinetuneOptions:
    """What every joint training of a trunk shares."""

    out: Path
    model: str = ""
    alpha: float = 1.0
    texts: tuple[Path, ...] = ()  # what must not be forgotten; empty: the texts of the task
    fields: tuple[str, ...] = ("text",)
    max_tokens: int = 128
    whole_words: bool = False
    head_steps: int = 300
    name: str = ""
    loop: LoopOptions = field(default_factory=LoopOptions)

    def plan(self) -> dict[str, Any]:
        """Return the options that two runs must share for one to go on where the other stopped."""
        known = asdict(self)
        for name in ("out", "loop", "name"):
            del known[name]
        known["texts"] = [path.name for path in self.texts]
        known["alpha"] = str(self.alpha)  # JSON knows no infinity
        return {**known, **loop_plan(self.loop)}


@dataclass(frozen=True, slots=True)
class FineTuned:
    """How a joint training went: steps, and the mean of each loss over the last tenth of them."""

    steps: int
    losses: dict[str, float]


def fine_tune(
    opened: OpenedModel,
    task: Task,
    pretrain: Examples | None,
    options: FinetuneOptions,
    workplace: Workplace,
) -> FineTuned:
    """Train the model in place; goes on where an interrupted run stopped.

    `pretrain` None, or α infinite: the task alone. Raises TrainingFailed.
    """
    loop, model = options.loop, opened.language_model
    rows = task.lengths
    if not len(rows):
        raise UnreadableData("there is nothing to learn from: no labeled row is left to train on")
    steps = loop.steps or steps_of(len(rows), loop.batch_rows, loop.epochs)
    reads = pretrain is not None and not math.isinf(options.alpha)
    adapters = add_adapters(model, loop.lora_rank) if loop.lora_rank else None
    tasks = Schedule(rows, batch_rows=loop.batch_rows, steps=steps, seed=loop.seed)
    texts = (
        Schedule(pretrain.lengths, batch_rows=loop.batch_rows, steps=steps, seed=loop.seed + 2)
        if pretrain is not None and reads
        else None
    )

    def batch_of(step: int) -> dict[str, Any]:
        batch: dict[str, Any] = {"task": task.batch(tasks.batch(step))}
        if texts is not None and pretrain is not None:
            batch["pretrain"] = pretrain.batch(texts.batch(step))
        return batch

    joint = JointModel(model, task, options.alpha)
    losses = run_loop(joint, batch_of, steps, loop, workplace.checkpoints)
    if adapters is not None:
        adapters.merge()
    return FineTuned(steps, losses)


def prepare_head(
    opened: OpenedModel, pretrain: Examples | None, options: FinetuneOptions, workplace: Workplace
) -> None:
    """Give a checkpoint without a language head one, where the joint loss will need it."""
    if opened.new_head and pretrain is not None and not math.isinf(options.alpha):
        head = workplace.shared("head")
        warm_up_head(opened.language_model, pretrain, options.loop, options.head_steps, head)


@dataclass(frozen=True, slots=True)
class LanguageExamples:
    """MLM or CLM examples beside a task: to learn from, and a tenth held out (None: no text)."""

    train: Examples | None
    held_out: Examples | None


def language_examples(
    texts: Iterable[tuple[str, ...]], opened: OpenedModel, folder: Path, *, whole_words: bool
) -> LanguageExamples:
    """Tokenize texts, each given as its parts, which stand side by side in one example."""
    writers = {name: TokenWriter(folder / name) for name in ("train", "held-out")}
    cutter = _Joiner(opened, whole_words)
    with writers["train"], writers["held-out"]:
        for parts in texts:
            ids, words = cutter(parts)
            name = "held-out" if part_of(" ".join(parts)) == "validation" else "train"
            if ids:
                writers[name].add(ids, words)
    return LanguageExamples(*(_of_store(TokenStore(folder / name), opened) for name in writers))


class _Joiner:
    """Parts of a text → one row of token ids with the number of each one's word."""

    def __init__(self, opened: OpenedModel, whole_words: bool) -> None:
        tokenizer = opened.tokenizer
        self._causal = opened.language_model.objective == "clm"
        self._backend = tokenizer.backend_tokenizer
        self._between = tokenizer.eos_token_id if self._causal else tokenizer.sep_token_id
        self._end = [tokenizer.eos_token_id] if self._causal else []
        self._most = opened.max_tokens - (1 if self._causal else 2)
        self._whole_words = whole_words

    def __call__(self, parts: tuple[str, ...]) -> tuple[list[int], list[int]]:
        self._backend.no_padding()
        self._backend.no_truncation()
        ids: list[int] = []
        words: list[int] = []
        for text in parts:
            encoding = self._backend.encode(text, add_special_tokens=False)
            found = word_numbers(text, encoding) if self._whole_words else None
            numbers = found or token_numbers(len(encoding.ids))
            top = max(words, default=0)
            if ids:
                ids.append(self._between)
                words.append(0)
            ids += encoding.ids
            words += [number + top for number in numbers]
        ids, words = ids[: self._most], words[: self._most]
        return [*ids, *self._end], [*words, *(0 for _ in self._end)]


def _of_store(store: TokenStore, opened: OpenedModel) -> Examples | None:
    if not len(store):
        return None
    tokenizer = opened.tokenizer
    if opened.language_model.objective == "clm":
        return CausalTexts(store, tokenizer.pad_token_id)
    return MaskedTexts(store, tokenizer, MaskRule(tokenizer.mask_token_id, len(tokenizer)))
