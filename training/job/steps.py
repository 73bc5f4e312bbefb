"""One part through the job: train, judge, gate; each step is kept, so a killed job repeats none."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from models.releases.gate_record import GateDecision
from models.releases.manifest import ReleaseManifest, TrainedOn
from models.releases.shoppers import (
    encode_samples,
    encode_shoppers,
    merge_samples,
    merge_shoppers,
    samples_file,
    shoppers_file,
)
from models.releases.store import ReleaseStore
from training.dataset import Row
from training.evaluation.cases import TestCases
from training.gate import Contender, decide
from training.guards import GateOptions
from training.job.files import RunFiles
from training.job.options import JobOptions
from training.job.plan import PartPlan
from training.parts.part import NotTrainable, PartContext, TrainablePart
from training.parts.samples import PartSamples
from training.weights import weight_fault

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PartRun:
    """A part, its plan, and where its files stand; `place` keeps runs of one part apart."""

    part: TrainablePart
    plan: PartPlan
    context: PartContext
    options: JobOptions
    run: RunFiles
    place: str = "parts"

    @property
    def folder(self) -> Path:
        """Where the trained part stands: `model/`, `shoppers`, `samples`."""
        return self.run.path(f"{self.place}/{self.part.name}")

    def decide(self, current: ReleaseManifest, store: ReleaseStore) -> GateDecision:
        """Train the part and return the gate's decision; each only once."""
        learnt, tested = self.rows()
        trained = self.train(learnt, current, store)
        kept = self.run.step(
            f"gate.{self.part.name}",
            lambda: self.judge(trained, learnt, tested, current, store).model_dump(mode="json"),
        )
        return GateDecision.model_validate(kept)

    def rows(self) -> tuple[list[Row], list[Row]]:
        """Return what is learnt from, oldest first, and what is tested on."""
        samples = PartSamples(self.options.samples, self.part.kinds)
        most = min(self.options.max_train, self.part.pace.max_samples or self.options.max_train)
        tested = samples.tested(self.plan.cut_us, self.plan.end_us)
        return _newest(samples.learnt(self.plan.cut_us), most), list(
            islice(tested, 2 * self.options.max_test)
        )

    def train(
        self, learnt: Sequence[Row], current: ReleaseManifest, store: ReleaseStore
    ) -> dict[str, Any]:
        """Train the part, once; return `figures` and `data`, or the `fault` that hinders it."""
        return self.run.build(
            f"{self.place}/{self.part.name}",
            lambda out: self._train(out, learnt, current, store),
        )

    def _train(
        self, out: Path, learnt: Sequence[Row], current: ReleaseManifest, store: ReleaseStore
    ) -> dict[str, Any]:
        start = None if self.plan.from_nothing else self.part.standing(self.context.release)
        logger.info(
            "%s: training on %d samples (%s)", self.part.name, len(learnt), self.plan.reason
        )
        out.mkdir(parents=True)
        try:
            figures = self.part.train(self.context, learnt, start, out / "model")
        except NotTrainable as error:
            return {"fault": str(error)}
        shoppers, samples = encode_shoppers(_oldest(learnt)), encode_samples(_ids(learnt))
        warm = bool(figures.get("warm_start"))
        if warm:  # what the weights began with was learnt from the parent's shoppers too
            inherited = _lineage(store, current, self.part.name)
            shoppers = merge_shoppers(shoppers, inherited(shoppers_file))
            samples = merge_samples(samples, inherited(samples_file))
        (out / "shoppers").write_bytes(shoppers)
        (out / "samples").write_bytes(samples)
        trained = TrainedOn(
            kind=" and ".join(sorted({str(row["kind"]) for row in learnt})),
            samples=len(learnt),
            shoppers=len({row["user"] for row in learnt}),
            first=min((row["occurred_at"] for row in learnt), key=datetime.fromisoformat),
            last=max((row["occurred_at"] for row in learnt), key=datetime.fromisoformat),
            warm_start=warm,
        )
        return {"figures": figures, "data": trained.model_dump(mode="json")}

    def judge(
        self,
        trained: dict[str, Any],
        learnt: Sequence[Row],
        tested: Sequence[Row],
        current: ReleaseManifest,
        store: ReleaseStore,
    ) -> GateDecision:
        """Compare what was trained with what stands, on the tested rows."""
        standing = self.part.standing(self.context.release)
        cases = cases_of(tested)
        fault = trained.get("fault") or weight_fault(self.folder / "model")
        folders = [standing] if fault else [standing, self.folder / "model"]
        found = self.part.evaluate(self.context, folders, learnt, tested)
        name = str(current.release_id)
        serving = Contender(name, found[0], self.learnt_by(current, store))
        candidate = Contender(
            f"{name}+{self.part.name}",
            found[-1],
            b"" if fault else (self.folder / "samples").read_bytes(),
            None if fault else trained["data"]["last"],
            fault,
        )
        return decide(self.part.name, candidate, serving, cases, self.gate)

    @property
    def gate(self) -> GateOptions:
        """The gate's options for this part."""
        if self.plan.from_nothing:  # to forget may not wait for a gain
            return replace(self.options.gate, rule="no-loss")
        return self.options.gate

    def learnt_by(self, current: ReleaseManifest, store: ReleaseStore) -> bytes:
        """Return the list of samples that the current release's part was trained on."""
        return _lineage(store, current, self.part.name)(samples_file)


def _lineage(
    store: ReleaseStore, current: ReleaseManifest, part: str
) -> Callable[[Callable[[str], str]], bytes]:
    """Return a reader of the lineage files of a part of the current release; empty: it has none."""
    return lambda name: store.lineage_file(str(current.release_id), name(part)) or b""


def _newest(rows: Iterable[Row], limit: int) -> list[Row]:
    """Return the newest rows; they come oldest first."""
    return list(deque(rows, maxlen=limit))


def _oldest(rows: Sequence[Row]) -> dict[str, datetime]:
    found: dict[str, datetime] = {}
    for row in rows:
        moment = datetime.fromisoformat(row["occurred_at"])
        found[row["user"]] = min(moment, found.get(row["user"], moment))
    return found


def _ids(rows: Sequence[Row]) -> list[str]:
    return [str(row["sample_id"]) for row in rows]


def cases_of(rows: Sequence[Row]) -> TestCases:
    """Return the cases of tested rows."""
    times = sorted((row["occurred_at"] for row in rows), key=datetime.fromisoformat)
    return TestCases(
        _ids(rows),
        [str(row["user"]) for row in rows],
        [str(row["locale"] or "") for row in rows],
        times[0] if times else None,
        times[-1] if times else None,
    )
