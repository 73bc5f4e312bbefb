"""A language model learns a shop's language: MLM, MLM + NSP, or CLM, from a checkpoint or nothing.

texts → token store → examples → Trainer (our losses) → folder that AutoModel loads

mlm      L = L_MLM                Devlin et al. 2019; whole words: Cui et al. 2019
mlm-nsp  L = L_MLM + L_NSP        Devlin et al. 2019
clm      L = L_CLM                Radford et al. 2019
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from models.metrics import Estimate
from training.data.rows import UnreadableData
from training.data.texts import DEFAULT_FIELDS, TextReport, read_texts
from training.language.checkpoints import (
    OpenedModel,
    Shape,
    new_model,
    open_causal,
    open_masked,
)
from training.language.examples import Examples, MaskedTexts, SentencePairs, TextBlocks
from training.language.language_model import LanguageModel, Objective
from training.language.masking import MaskRule
from training.language.reading import ReadTexts, read_into_stores
from training.language.reports import follow_accuracy, language_loss
from training.language.token_store import TokenStore
from training.loop.adapters import add_adapters
from training.loop.joint import JointModel, warm_up_head
from training.loop.options import LoopOptions
from training.loop.schedule import Schedule, steps_of
from training.loop.trainer import run_loop
from training.loop.trunk_folder import lineage_of, save_trunk
from training.loop.workplace import Workplace, data_fingerprint, loop_plan
from training.processes import first_goes_first
from training.tokenizer import MIN_VOCABULARY, train_tokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PretrainOptions:
    """What is learnt, from which texts, starting from which model."""

    objective: Objective
    texts: tuple[Path, ...]
    out: Path
    model: str = ""
    fields: tuple[str, ...] = DEFAULT_FIELDS
    from_scratch: bool = False
    vocab_size: int = 8_000
    shape: Shape = field(default_factory=Shape)
    max_tokens: int = 128
    whole_words: bool = False
    mask_rate: float = 0.15
    head_steps: int = 300  # of a language head that the checkpoint lacks, before the trunk moves
    name: str = ""
    loop: LoopOptions = field(default_factory=LoopOptions)


@dataclass(frozen=True, slots=True)
class PretrainResult:
    """What came of it; the losses are of held-out texts, a token, masks fixed; None: none held out.

    `before` is None for a model from nothing, and for one whose language head was new.
    """

    out: Path
    objective: Objective
    texts: TextReport
    train_tokens: int
    steps: int
    losses: dict[str, float]
    before: Estimate | None
    after: Estimate | None
    follow_accuracy: Estimate | None

    @property
    def perplexity(self) -> float | None:
        """Return e to the held-out loss: among how many words the model hesitates."""
        return math.exp(self.after.value) if self.after else None


def pretrain(options: PretrainOptions) -> PretrainResult:
    """Train and write the model; goes on where an interrupted run of the same options stopped.

    Raises:
        UnreadableData: the texts cannot be used.
        ModelUnavailable: the model cannot be opened.
        TrainingFailed: the loss is no number, the disk is full, the folder is taken.
    """
    workplace = Workplace(options.out, _plan(options), fresh=options.loop.fresh)
    report = TextReport()
    opened = _open(options, workplace)
    model = opened.language_model
    read = read_into_stores(
        read_texts(options.texts, options.fields, report),
        opened.tokenizer,
        options.objective,
        workplace.tokens("tokens"),
        max_tokens=opened.max_tokens,
        whole_words=options.whole_words,
    )
    for line in report.sentences():
        logger.warning("%s", line)
    examples, held_out = _examples(read, opened, options)
    if opened.new_head:
        warm_up_head(model, examples, options.loop, options.head_steps, workplace.shared("head"))
    known = not (options.from_scratch or opened.new_head)
    before = language_loss(model, held_out, options.loop) if known else None
    adapters = add_adapters(model, options.loop.lora_rank) if options.loop.lora_rank else None
    steps = options.loop.steps or steps_of(
        len(examples.lengths), options.loop.batch_rows, options.loop.epochs
    )
    losses = _train(model, examples, steps, options.loop, workplace.checkpoints)
    if adapters is not None:
        adapters.merge()
    result = PretrainResult(
        out=options.out,
        objective=options.objective,
        texts=report,
        train_tokens=len(read.train.ids),
        steps=steps,
        losses=losses,
        before=before,
        after=language_loss(model, held_out, options.loop),
        follow_accuracy=follow_accuracy(model, held_out, options.loop)
        if options.objective == "mlm-nsp"
        else None,
    )
    _save(result, opened, options)
    workplace.close()
    return result


def _open(options: PretrainOptions, workplace: Workplace) -> OpenedModel:
    """Open the checkpoint, or learn a tokenizer from the texts and make an untrained model."""
    if not options.from_scratch:
        if options.objective == "clm":
            return open_causal(options.model, options.max_tokens)
        return open_masked(options.model, options.objective, options.max_tokens)
    with first_goes_first():
        tokenizer = _tokenizer(options, workplace.shared("tokenizer"))
    return new_model(
        tokenizer, options.objective, options.shape, options.max_tokens, options.loop.seed
    )


def _tokenizer(options: PretrainOptions, folder: Path) -> Any:
    """Return the tokenizer of the texts: that of an interrupted run, else a new one.

    Kept, because learning breaks ties between equally frequent pieces by chance.
    """
    from transformers import AutoTokenizer

    if (folder / "tokenizer_config.json").is_file():
        return AutoTokenizer.from_pretrained(folder)
    if options.vocab_size < MIN_VOCABULARY:
        raise UnreadableData(f"--vocab-size must be at least {MIN_VOCABULARY}")
    tokenizer = train_tokenizer(
        _counted(read_texts(options.texts, options.fields)),
        "causal" if options.objective == "clm" else "masked",
        vocab_size=options.vocab_size,
        max_tokens=options.max_tokens,
    )
    logger.info("a tokenizer of %d tokens was learnt from the texts", len(tokenizer))
    tokenizer.save_pretrained(folder)
    return tokenizer


def _counted(texts: Iterator[str]) -> Iterator[str]:
    """Pass texts on; raises UnreadableData where there are none."""
    empty = True
    for text in texts:
        empty = False
        yield text
    if empty:
        raise UnreadableData("the files hold no text to learn from")


def _examples(
    read: ReadTexts, opened: OpenedModel, options: PretrainOptions
) -> tuple[Examples, Examples | None]:
    """Return what is learnt from, and what is held out (None where too little is)."""
    made = tuple(_of_store(store, opened, options) for store in (read.train, read.held_out))
    train, held_out = made
    if train is None:
        raise UnreadableData("the texts are too few or too short to learn from: add some")
    return train, held_out


def _of_store(store: TokenStore, opened: OpenedModel, options: PretrainOptions) -> Examples | None:
    if not len(store):
        return None
    if options.objective == "clm":
        blocks = TextBlocks(store, opened.max_tokens)
        return blocks if len(blocks) else None
    rule = MaskRule(opened.tokenizer.mask_token_id, len(opened.tokenizer), rate=options.mask_rate)
    if options.objective == "mlm-nsp":
        if store.documents[0] == store.documents[-1]:
            return None  # one text has no sentence of another text
        pairs = SentencePairs(store, opened.tokenizer, rule, opened.max_tokens)
        return pairs if len(pairs) else None
    return MaskedTexts(store, opened.tokenizer, rule)


def _train(
    model: LanguageModel, examples: Examples, steps: int, loop: LoopOptions, folder: Path
) -> dict[str, float]:
    schedule = Schedule(examples.lengths, batch_rows=loop.batch_rows, steps=steps, seed=loop.seed)
    joint = JointModel(model, task=None, alpha=0.0)
    return run_loop(
        joint, lambda step: {"pretrain": examples.batch(schedule.batch(step))}, steps, loop, folder
    )


def _plan(options: PretrainOptions) -> dict[str, Any]:
    known = {"objective": options.objective, "texts": _file_names(options.texts)}
    rest = ("model", "fields", "from_scratch", "vocab_size", "max_tokens", "whole_words")
    more = {name: getattr(options, name) for name in (*rest, "mask_rate", "head_steps")}
    data = data_fingerprint(options.texts)
    return {**known, **more, **asdict(options.shape), **loop_plan(options.loop), "data": data}


def _save(result: PretrainResult, opened: OpenedModel, options: PretrainOptions) -> None:
    data = {
        "texts": result.texts.texts,
        "tokens": result.train_tokens,
        "files": _file_names(options.texts),
        "fingerprint": data_fingerprint(options.texts),
        "skipped": dict(result.texts.skipped),
    }
    settings = {"steps": result.steps, **_plan(options)}
    settings.pop("data")
    metrics = {
        "held_out_loss": asdict(result.after) if result.after else None,
        "held_out_loss_before": asdict(result.before) if result.before else None,
        "perplexity": result.perplexity,
        "nsp_accuracy": asdict(result.follow_accuracy) if result.follow_accuracy else None,
    }
    save_trunk(
        opened.language_model,
        opened.tokenizer,
        options.out,
        name=options.name or options.out.name,
        source=opened.source,
        metrics=metrics,
        lineage=lineage_of(opened.source, opened.name, data, settings),
    )


def _file_names(paths: Sequence[Path]) -> list[str]:
    return [path.name for path in paths]
