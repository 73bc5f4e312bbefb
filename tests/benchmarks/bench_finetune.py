"""The α study: what a trunk gains on a task, and what it forgets of the language.

    python -m tests.benchmarks.bench_finetune [--language en|zh] [--alphas 0 1 inf] [--steps 40]

L = L_MLM + α·L_sentiment. English: all-MiniLM-L6-v2 on Amazon reviews (musical instruments), L_MLM
on questions and answers about all kinds of products (hetPQA). Chinese: the bilingual encoder on
ChnSentiCorp (hotels, books, laptops) and the English ones, L_MLM on Chinese reviews of other goods.
So forgetting is the MLM loss of those texts that were held out (the same masks for all), and gain
the accuracy on held-out reviews, of a head fitted anew on each trunk as it then stands. Sentence
encoders have no MLM head: one that begins as the identity, tied to the word embeddings, is trained
first with the trunk held still; all α start from that same base. Prints JSON lines. Skips where the
optional data is absent.
"""

from __future__ import annotations

import argparse
import csv
import logging
import math
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.metrics import ClassificationReport, Estimate
from models.text.sentiment import SentimentHead
from models.text_encoder import TextEncoder
from tests.benchmarks.figures import print_figure, shared_file
from training.data.reviews import read_reviews
from training.data.texts import read_texts
from training.finetune import FinetuneOptions, language_examples, prepare_head
from training.language.checkpoints import open_masked
from training.loop.options import LoopOptions
from training.loop.trunk_folder import save_trunk
from training.loop.workplace import Workplace
from training.tasks.train_sentiment import SentimentTraining, fit_head, part_reviews
from training.tasks.train_sentiment_trunk import train_sentiment_trunk

MAX_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Study:
    """What is learnt, what must not be forgotten, and the trunk that both are asked of."""

    sources: Sequence[tuple[Path, str, str]]  # reviews: file, its fields of text and label
    general: Path
    model: str


def study_of(language: str, folder: Path) -> Study:
    """Return a language's reviews, its general texts (a line each) and its trunk."""
    general = folder / "general.txt"
    instruments = shared_file("data", "reviews", "amazon_musical_instruments_5core.jsonl.gz")
    english = (instruments, "reviewText", "overall")
    if language == "zh":
        sources = [
            (shared_file("data", "sentiment", "chnsenticorp", "train.tsv"), "text_a", "label"),
            english,  # for the neutral ones, which the Chinese files do not know
        ]
        goods = read_reviews(
            shared_file("data", "sentiment", "shopping_reviews_zh.csv"), "review", "label"
        )
        _write_lines(general, (one.text for one in goods[:: max(1, len(goods) // 4_000)]))
        model = shared_file("models", "multilingual-e5-small-zh-en", "config.json").parent
        return Study(sources, general, str(model))
    questions = shared_file("data", "questions", "hetpqa_gen_train.csv")
    with questions.open(encoding="utf-8") as source:
        rows = csv.DictReader(source, delimiter="\t", quoting=csv.QUOTE_NONE)
        _write_lines(general, (f"{row['question']} {row['answer']}" for row in rows))
    return Study([english], general, "")


def _write_lines(path: Path, texts: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as target:
        target.writelines(f"{' '.join(text.split())}\n" for text in texts)


def make_base(model: str, texts: Path, out: Path, loop: LoopOptions, head_steps: int) -> None:
    """Write the base of all runs: the model with a language head."""
    options = FinetuneOptions(
        out=out, model=model, max_tokens=MAX_TOKENS, head_steps=head_steps, loop=loop
    )
    workplace = Workplace(out, {})
    opened = open_masked(model, "mlm", MAX_TOKENS)
    lines = ((text,) for text in read_texts([texts]))
    examples = language_examples(lines, opened, workplace.tokens("base"), whole_words=False)
    prepare_head(opened, examples.train, options, workplace)
    save_trunk(
        opened.language_model,
        opened.tokenizer,
        out,
        name="base",
        source=opened.source,
        metrics={},
        lineage={},
    )
    workplace.close()


def show(
    alpha: str, accuracy: ClassificationReport, language: Estimate | None, **more: object
) -> None:
    """Print the two figures of a trunk."""
    print_figure(
        "alpha_accuracy",
        accuracy.accuracy.value,
        "share",
        alpha=alpha,
        interval=[accuracy.accuracy.low, accuracy.accuracy.high],
        macro_f1=accuracy.macro_f1.value,
        cases=accuracy.accuracy.cases,
        **more,
    )
    if language is not None:
        print_figure(
            "alpha_language_loss",
            language.value,
            "nats",
            alpha=alpha,
            interval=[language.low, language.high],
            cases=language.cases,
        )


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--language", choices=["en", "zh"], default="en")
    parser.add_argument("--alphas", nargs="+", type=float, default=[0, 0.3, 1, 3, math.inf])
    parser.add_argument("--model", default="", help="A folder; empty: the language's own.")
    parser.add_argument("--reviews", type=int, default=300, help="Of a class.")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--head-steps", type=int, default=80)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    training = SentimentTraining(max_reviews=chosen.reviews)
    loop = LoopOptions(
        steps=chosen.steps,
        batch_rows=chosen.batch,
        learning_rate=chosen.learning_rate,
        threads=chosen.threads,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study, base = study_of(chosen.language, folder), folder / "base"
        reviews = [one for source in study.sources for one in read_reviews(*source)]
        make_base(chosen.model or study.model, study.general, base, loop, chosen.head_steps)
        trunk = TextEncoder.load(base, max_tokens=MAX_TOKENS, threads=chosen.threads)
        depth = int(trunk.network.config.num_hidden_layers)  # type: ignore[union-attr]
        head = SentimentHead(trunk.width, (depth // 2, depth))
        frozen = fit_head(trunk, head, part_reviews(reviews, training), training)
        show("frozen trunk", frozen, None)
        for alpha in chosen.alphas:
            began_s = time.monotonic()
            result = train_sentiment_trunk(
                reviews,
                FinetuneOptions(
                    out=folder / f"alpha-{alpha:g}",
                    model=str(base),
                    alpha=alpha,
                    texts=(study.general,),
                    max_tokens=MAX_TOKENS,
                    loop=loop,
                ),
                training,
                [path for path, _, _ in study.sources],
            )
            if alpha == chosen.alphas[0]:
                show("base", frozen, result.language_loss_before)
            assert result.report is not None
            minutes = round((time.monotonic() - began_s) / 60, 1)
            show(f"{alpha:g}", result.report, result.language_loss, minutes=minutes)


if __name__ == "__main__":
    main()
