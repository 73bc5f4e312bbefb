"""The trunk itself learns sentiment: L = L_MLM + α·L_sentiment; then its head is fitted again.

The head that learnt along is only a start: on the trunk as it then stands, frozen, it is fitted to
the end and calibrated, as `training.tasks.train_sentiment` does for any trunk.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from models.metrics import ClassificationReport, Estimate
from models.text.sentiment import SentimentHead, save
from models.text_encoder import TextEncoder
from training.data.reviews import LabeledReview
from training.data.texts import read_texts
from training.finetune import (
    FineTuned,
    FinetuneOptions,
    fine_tune,
    language_examples,
    prepare_head,
)
from training.language.checkpoints import open_masked
from training.language.reports import language_loss
from training.loop.trunk_folder import lineage_of, save_trunk
from training.loop.workplace import Workplace, data_fingerprint
from training.tasks.pairs import TextTokens
from training.tasks.sentiment import SentimentTask
from training.tasks.train_sentiment import SentimentTraining, count_rows, fit_head, part_reviews

logger = logging.getLogger(__name__)

HEAD_FOLDER = "heads/sentiment"


@dataclass(frozen=True, slots=True)
class SentimentTrunkResult:
    """What came of it: the report of the head on the test part, and the language loss."""

    out: Path
    rows: dict[str, int]
    tuned: FineTuned
    report: ClassificationReport | None  # None in all processes but the first
    language_loss_before: Estimate | None
    language_loss: Estimate | None


def train_sentiment_trunk(
    reviews: Sequence[LabeledReview],
    options: FinetuneOptions,
    training: SentimentTraining,
    data: Sequence[Path],
) -> SentimentTrunkResult:
    """Train trunk and head on the training part and write both below `options.out`.

    Raises:
        UnreadableData, ModelUnavailable, TrainingFailed, TooFewReviews: see the message.
    """
    plan = {
        **options.plan(),
        "task": "sentiment",
        "max_reviews": training.max_reviews,
        "data": data_fingerprint([*data, *options.texts]),
    }
    workplace = Workplace(options.out, plan, fresh=options.loop.fresh)
    parts = part_reviews(reviews, training)
    opened = open_masked(options.model, "mlm", options.max_tokens)
    assert opened.source is not None
    model, source = opened.language_model, opened.source
    torch.manual_seed(training.seed)
    depth = int(model.network.config.num_hidden_layers)
    head = SentimentHead(model.width, training.layers or (depth // 2, depth))
    task = SentimentTask(
        parts["train"],
        head,
        TextTokens(opened.tokenizer, opened.max_tokens),
        workplace.tokens("reviews"),
        pad_id=opened.tokenizer.pad_token_id,
        pooling=source.pooling,
        prefix=source.passage_prefix,
    )
    other = read_texts(options.texts, options.fields)
    texts = ((text,) for text in (other if options.texts else (r.text for r in parts["train"])))
    examples = language_examples(
        texts, opened, workplace.tokens("language"), whole_words=options.whole_words
    )
    prepare_head(opened, examples.train, options, workplace)
    before = language_loss(model, examples.held_out, options.loop)
    tuned = fine_tune(opened, task, examples.train, options, workplace)
    found: list[ClassificationReport] = []

    def add_head(folder: Path) -> None:
        trunk = TextEncoder.load(folder, device="cpu", max_tokens=options.max_tokens)
        found.append(fit_head(trunk, head.cpu(), parts, training))
        lineage = {**_lineage(trunk, plan, parts), "test": asdict(found[0])}
        save(head, folder / HEAD_FOLDER, name="sentiment", lineage=lineage)

    after = language_loss(model, examples.held_out, options.loop)
    read = {"files": [path.name for path in data], "rows": count_rows(parts)}
    save_trunk(
        model,
        opened.tokenizer,
        options.out,
        name=options.name or options.out.name,
        source=source,
        metrics={
            "language_loss_before": asdict(before) if before else None,
            "language_loss": asdict(after) if after else None,
        },
        lineage=lineage_of(source, opened.name, read, {**plan, "steps": tuned.steps}),
        add=add_head,
    )
    workplace.close()
    report = found[0] if found else None
    return SentimentTrunkResult(options.out, count_rows(parts), tuned, report, before, after)


def _lineage(
    trunk: TextEncoder, plan: Mapping[str, Any], parts: Mapping[Any, Sequence[LabeledReview]]
) -> dict[str, Any]:
    return {
        "trunk": trunk.release,
        "trunk_weights": trunk.trunk_release.weights_checksum,
        "parts": "by hash of the text: 70 % train, 10 % validation, 20 % test",
        "rows": count_rows(parts),
        "options": dict(plan),
    }
