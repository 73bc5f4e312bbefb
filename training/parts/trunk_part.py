"""The trunk: L = L_pretrain + α·L_task on searches with what was bought and questions answered.

Both tasks are one contrastive loss over pairs (`training.tasks.contrastive`), so they share every
step. Judged as the worker ranks: searches over the whole catalogue, questions over the passages
that may answer. What reads the trunk (`bound`) must be trained anew on it: the job does that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from models.product_index import IndexedProduct
from models.releases.folder import PRODUCT_VECTORS, link_or_copy
from models.search.product_vectors import load_product_vectors, save_product_vectors
from models.text_encoder import TextEncoder
from training.data.json_files import read_json, write_json
from training.data.rows import ReadReport, UnreadableData
from training.dataset import Kind, Row
from training.evaluation.cases import Evaluation
from training.evaluation.evaluate_search import read_catalogue
from training.evaluation.product_encoding import encode_products
from training.finetune import FinetuneOptions
from training.loop.options import LoopOptions, TrainingFailed
from training.parts.part import NotTrainable, Pace, PartContext, TrainablePart
from training.parts.trunk_judgement import answer_values, joint_evaluation, search_values
from training.parts.trunk_samples import judged_questions, trunk_pairs
from training.tasks.sources import PairSource
from training.tasks.train_retrieval import train_retrieval

TRUNK = "trunk"


@dataclass(frozen=True, slots=True)
class TrunkTraining:
    """How the trunk is trained, on at most `max_pairs` samples, the newest."""

    alpha: float = 1.0
    position_bias: float = 1.0
    max_pairs: int = 20_000
    head_steps: int = 300
    loop: LoopOptions = field(default_factory=lambda: LoopOptions(learning_rate=2e-5))


class TrunkPart:
    """Which product a search wants, and which passage answers a question."""

    name = TRUNK
    kinds: tuple[Kind, ...] = ("search", "answer")

    def __init__(
        self,
        products: Path,
        bound: Sequence[TrainablePart] = (),
        options: TrunkTraining | None = None,
    ) -> None:
        """Train with these options; `products` holds the fields of a Product a line."""
        self.bound = tuple(bound)
        self._file = products
        self._options = options or TrunkTraining()
        self.pace = Pace(wakes_after=10, max_samples=self._options.max_pairs)

    def standing(self, release: Path) -> Path | None:
        """Return the release's own folder: the trunk is its root."""
        return release

    def reads_trunk(self, folder: Path) -> bool:
        """Say that a trunk reads no other."""
        return False

    def train(
        self, context: PartContext, rows: Sequence[Row], start: Path | None, out: Path
    ) -> dict[str, Any]:
        """Fine-tune the trunk, and write it with its vectors of all products."""
        begin = start or context.origin
        if begin is None:
            raise NotTrainable(
                "it must begin from nothing, but no release in the store holds a trunk that has "
                "seen no samples: publish the original one, and promote it"
            )
        products = self._products(rows)
        source = trunk_pairs(
            rows,
            {one.product_id: one.text for one in products},
            eta=self._options.position_bias,
        )
        work = context.scratch / f"{TRUNK}-{_fingerprint(rows)}"
        work.parent.mkdir(parents=True, exist_ok=True)
        done = work.with_name(f"{work.name}.json")
        figures = read_json(done)
        if figures is None:
            figures = self._train(context, source, begin, work, products)
            write_json(done, figures)
        for path in sorted(work.rglob("*")):
            if path.is_file():
                link_or_copy(path, out / path.relative_to(work))
        return {**figures, "warm_start": start is not None}

    def _train(
        self,
        context: PartContext,
        source: PairSource,
        begin: Path,
        work: Path,
        products: Sequence[IndexedProduct],
    ) -> dict[str, Any]:
        """Train into `work`, where a killed training goes on; return its figures."""
        try:
            result = train_retrieval(source, self._finetuning(context, begin, work), [])
        except (UnreadableData, TrainingFailed) as error:
            if isinstance(error.__cause__, OSError):
                raise error.__cause__ from error
            raise NotTrainable(str(error)) from error
        if products:
            self._write_vectors(context.load_trunk(work), products, work / PRODUCT_VECTORS)
        return {
            "pairs": result.pairs,
            "steps": result.tuned.steps,
            "losses": result.tuned.losses,
            "alpha": str(self._options.alpha),
            "language_loss_before": _figure(result.language_loss_before),
            "language_loss": _figure(result.language_loss),
            "language_change": _figure(result.language_change),
        }

    def evaluate(
        self,
        context: PartContext,
        folders: Sequence[Path | None],
        known: Sequence[Row],
        tested: Sequence[Row],
    ) -> list[Evaluation]:
        """Judge trunks by nDCG@10: of the bought product over the catalogue, of what answered."""
        products = self._products(tested)
        questions = judged_questions(tested, known, {one.product_id: one for one in products})
        found: list[Evaluation] = []
        for folder in folders:
            assert folder is not None
            own = folder == context.release and not context.has_new_trunk
            trunk = context.trunk if own else context.load_trunk(folder)
            vectors = folder / PRODUCT_VECTORS
            stored = load_product_vectors(vectors, trunk) if vectors.is_dir() else None
            values = {
                "search": search_values(trunk, products, stored, tested),
                "answers": answer_values(trunk, questions),
            }
            found.append(joint_evaluation(tested, values))
        return found

    def _products(self, rows: Sequence[Row]) -> list[IndexedProduct]:
        """Return the catalogue; raises NotTrainable where searches have none to be ranked over."""
        products: list[IndexedProduct] = []
        if self._file.is_file():
            products = list(read_catalogue(self._file, ReadReport()))
        if not products and any(row["kind"] == "search" for row in rows):
            raise NotTrainable(
                f"{self._file} holds no products: searches cannot be learnt without them; run the "
                "job without --no-export, while the worker knows the catalogue"
            )
        return products

    def _finetuning(self, context: PartContext, begin: Path, out: Path) -> FinetuneOptions:
        loop = replace(
            self._options.loop,
            seed=context.seed,
            threads=context.threads,
            cpu=context.device == "cpu",
        )
        return FinetuneOptions(
            out=out,
            model=str(begin),
            alpha=self._options.alpha,
            max_tokens=context.max_tokens,
            head_steps=self._options.head_steps,
            name=context.trunk.trunk_release.name,
            loop=loop,
        )

    def _write_vectors(
        self, trunk: TextEncoder, products: Sequence[IndexedProduct], folder: Path
    ) -> None:
        texts = list(dict.fromkeys(one.text for one in products))
        save_product_vectors(folder, trunk, texts, encode_products(trunk, texts))


def _fingerprint(rows: Sequence[Row]) -> str:
    digest = hashlib.sha256("\n".join(str(row["sample_id"]) for row in rows).encode())
    return digest.hexdigest()[:12]


def _figure(estimate: Any) -> dict[str, Any] | None:
    return None if estimate is None else asdict(estimate)
