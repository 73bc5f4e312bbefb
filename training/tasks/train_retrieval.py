"""A query finds its passage: search → product, question → answer, on one trunk (bi-encoder).

    pairs → token stores → L = L_pretrain + α·L_contrastive → ranks of held-out pairs → folder

The classic recipe is the same with L_pretrain on "search [SEP] purchase" itself, from a masked or a
causal model. In-batch negatives: Karpukhin et al. 2020 (arXiv 2004.04906).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.metrics import Estimate, hit_rate, mean_estimate, paired_difference, ranking_values
from training.data.rows import UnreadableData
from training.data.texts import read_texts
from training.finetune import (
    FineTuned,
    FinetuneOptions,
    LanguageExamples,
    fine_tune,
    language_examples,
    prepare_head,
)
from training.language.checkpoints import OpenedModel, open_causal, open_masked
from training.language.language_model import TrainingPooling
from training.language.reports import language_losses
from training.loop.trunk_folder import lineage_of, save_trunk
from training.loop.workplace import Workplace, data_fingerprint
from training.tasks.contrastive import ContrastiveTask, encode_store
from training.tasks.pairs import PairSet, PairWriter, TextTokens
from training.tasks.sources import PairSource

logger = logging.getLogger(__name__)

RECALL_AT = (1, 5, 10, 50)
_MAX_TESTED = 5_000  # queries; their order by the hash of the split is as good as a draw
_RANKED = 100


@dataclass(frozen=True, slots=True)
class RetrievalResult:
    """What came of it; metrics of held-out queries, ranked over all passages."""

    out: Path
    pairs: int
    tested_queries: int
    passages: int
    split: str
    skipped: dict[str, int]
    tuned: FineTuned
    before: dict[str, Estimate]
    after: dict[str, Estimate]
    gain: dict[str, Estimate]  # after less before on the same queries
    language_loss_before: Estimate | None
    language_loss: Estimate | None
    language_change: Estimate | None  # after less before on the same texts: above 0 it is worse


def train_retrieval(
    source: PairSource,
    options: FinetuneOptions,
    data: Sequence[Path],
    *,
    objective: Literal["mlm", "clm"] = "mlm",
    joined_texts: bool = False,
    temperature: float = 0.05,
) -> RetrievalResult:
    """Train the trunk on pairs and write it; goes on where an interrupted run stopped.

    Args:
        data: the files behind `source`, for the lineage.
        joined_texts: L_pretrain reads "search [SEP] purchase" instead of each text alone.

    Raises:
        UnreadableData, ModelUnavailable, TrainingFailed: what to mend stands in the message.
    """
    fingerprint = data_fingerprint([*data, *options.texts])
    plan = {**options.plan(), "objective": objective, "joined": joined_texts, "data": fingerprint}
    workplace = Workplace(options.out, plan, fresh=options.loop.fresh)
    for line in source.report.sentences():
        logger.warning("%s", line)
    opened = (
        open_causal(options.model, options.max_tokens)
        if objective == "clm"
        else open_masked(options.model, "mlm", options.max_tokens)
    )
    pairs, train_rows, test_rows = _write_pairs(source, opened, workplace)
    judge = _Judge(pairs, test_rows, opened, pooling := _pooling(opened))
    examples = _language(source, opened, options, workplace, joined=joined_texts)
    prepare_head(opened, examples.train, options, workplace)
    loop, model = options.loop, opened.language_model
    before, told_before = judge.values(), language_losses(model, examples.held_out, loop)
    task = ContrastiveTask(
        pairs,
        train_rows,
        pad_id=opened.tokenizer.pad_token_id,
        pooling=pooling,
        temperature=temperature,
    )
    tuned = fine_tune(opened, task, examples.train, options, workplace)
    after, told_after = judge.values(), language_losses(model, examples.held_out, loop)
    result = RetrievalResult(
        out=options.out,
        pairs=len(train_rows),
        tested_queries=len(pairs.qrels(test_rows.tolist())),
        passages=len(pairs.keys),
        split=source.split,
        skipped=dict(source.report.skipped),
        tuned=tuned,
        before={name: mean_estimate(values) for name, values in before.items()},
        after={name: mean_estimate(values) for name, values in after.items()},
        gain={name: paired_difference(after[name], before[name]) for name in after},
        language_loss_before=mean_estimate(told_before) if told_before else None,
        language_loss=mean_estimate(told_after) if told_after else None,
        language_change=paired_difference(told_after, told_before) if told_after else None,
    )
    _save(result, opened, options, plan, data)
    workplace.close()
    return result


def _write_pairs(
    source: PairSource, opened: OpenedModel, workplace: Workplace
) -> tuple[PairSet, NDArray[np.int64], NDArray[np.int64]]:
    """Return all pairs as numbers, the rows to learn from and the rows to test on."""
    causal = opened.language_model.objective == "clm"
    end_id = opened.tokenizer.eos_token_id if causal else None
    tokens = TextTokens(opened.tokenizer, opened.max_tokens, end_id)
    trunk = opened.source
    prefixes = (trunk.query_prefix, trunk.passage_prefix) if trunk else ("", "")
    trained = tested = 0
    with PairWriter(workplace.tokens("pairs"), tokens, *prefixes) as writer:
        for key, text in source.passages.items():
            writer.passage(key, text)
        for pair in source.train():
            writer.add(pair)
            trained += 1
        for pair in source.test():
            writer.add(pair)
            tested += 1
    if not trained:
        raise UnreadableData("no pair is left to learn from; see what was skipped and why")
    rows = np.arange(trained + tested)
    return writer.pair_set(), rows[:trained], rows[trained : trained + _MAX_TESTED]


def _pooling(opened: OpenedModel) -> TrainingPooling:
    if opened.language_model.objective == "clm":
        return "late"
    return opened.source.pooling if opened.source else "mean"


def _language(
    source: PairSource,
    opened: OpenedModel,
    options: FinetuneOptions,
    workplace: Workplace,
    *,
    joined: bool,
) -> LanguageExamples:
    """Return the examples of L_pretrain: other texts where named, else those of the task."""
    if options.texts:
        texts: Iterator[tuple[str, ...]] = (
            (text,) for text in read_texts(options.texts, options.fields)
        )
    elif joined:
        texts = ((pair.query, source.passages[pair.positive]) for pair in source.train())
    else:
        texts = _apart(source)
    folder = workplace.tokens("language")
    return language_examples(texts, opened, folder, whole_words=options.whole_words)


def _apart(source: PairSource) -> Iterator[tuple[str, ...]]:
    yield from ((text,) for text in source.passages.values())
    yield from ((query,) for query in dict.fromkeys(pair.query for pair in source.train()))


class _Judge:
    """Ranks all passages for the held-out queries, before and after."""

    def __init__(
        self,
        pairs: PairSet,
        test_rows: NDArray[np.int64],
        opened: OpenedModel,
        pooling: TrainingPooling,
    ) -> None:
        self._pairs = pairs
        self._qrels = pairs.qrels(test_rows.tolist())
        first = {int(pairs.groups[row]): row for row in reversed(test_rows.tolist())}
        self._queries = [first[group] for group in self._qrels]
        self._opened = opened
        self._pooling: TrainingPooling = pooling

    def values(self) -> dict[str, NDArray[np.float64]]:
        """Return accuracy, recall@k, MRR@10 and nDCG@10 of each held-out query."""
        if not self._queries:
            return {}
        run = {str(group): hits for group, hits in zip(self._qrels, self._ranked(), strict=True)}
        qrels = {str(group): gains for group, gains in self._qrels.items()}
        top = [hit_rate(run[group], gains, 1) for group, gains in qrels.items()]
        values = {"accuracy": np.array(top)}
        for k in RECALL_AT:
            values[f"recall@{k}"] = ranking_values(run, qrels, k)[f"recall@{k}"]
        at_ten = ranking_values(run, qrels, 10)
        return {**values, "mrr@10": at_ten["mrr@10"], "ndcg@10": at_ten["ndcg@10"]}

    def _ranked(self) -> Iterator[list[str]]:
        model = self._opened.language_model
        model.eval()
        known: dict[str, Any] = {
            "pooling": self._pooling,
            "pad_id": self._opened.tokenizer.pad_token_id,
        }
        passages = range(len(self._pairs.keys))
        catalogue = encode_store(model, self._pairs.passages, passages, **known)  # (P, D)
        queries = encode_store(model, self._pairs.queries, self._queries, **known)  # (Q, D)
        for query in queries:
            scores = catalogue @ query
            best = np.argsort(-scores, kind="stable")[:_RANKED]
            yield [self._pairs.keys[place] for place in best]


def _save(
    result: RetrievalResult,
    opened: OpenedModel,
    options: FinetuneOptions,
    plan: dict[str, Any],
    data: Sequence[Path],
) -> None:
    known = asdict(result)
    metrics = {
        name: known[name]
        for name in (
            "before", "after", "gain",
            "language_loss_before", "language_loss", "language_change", "split",
        )
    }  # fmt: skip
    read = {
        "files": [path.name for path in data],
        "pairs": result.pairs,
        "passages": result.passages,
        "skipped": result.skipped,
        "fingerprint": plan["data"],
    }
    save_trunk(
        opened.language_model,
        opened.tokenizer,
        options.out,
        name=options.name or options.out.name,
        source=opened.source,
        metrics=metrics,
        lineage=lineage_of(opened.source, opened.name, read, {**plan, "steps": result.tuned.steps}),
    )
