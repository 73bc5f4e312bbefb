"""The retraining job: from samples to a promoted release, killed, refused, or without work."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.releases.folder import parts_of
from models.releases.notes import forgotten_in, refusals_of
from models.releases.publish import publish_folder
from models.releases.shoppers import decode_shoppers, shopper_mark
from models.releases.store import ReleaseStore
from models.text.sentiment import load
from tests.support.review_samples import export, forget, make_reviews
from tests.support.tiny_release import write_tiny_head
from tests.support.tiny_trunk import write_tiny_trunk
from training.gate import GateOptions
from training.job.options import JobOptions
from training.job.run import JobFailed, JobHooks, JobReport, run_job
from training.parts.sentiment_part import SentimentPart
from training.tasks.train_sentiment import SentimentTraining


@dataclass
class Shop:
    """A store with a base release, a folder of samples, and what the job does to them."""

    store: ReleaseStore
    options: JobOptions
    current: str
    promoted: list[tuple[str, str]] = field(default_factory=list)
    checks: int = 0

    def run(self, **changes: Any) -> JobReport:
        """Run the job once; what it promotes is current from then on."""
        part = SentimentPart(SentimentTraining(epochs=20, learning_rate=8e-3))
        return run_job(
            replace(self.options, **changes),
            self.store,
            self.current,
            [part],
            JobHooks(self._check, self._promote),
        )

    def _check(self) -> None:
        self.checks += 1

    def _promote(self, release_id: str, instead_of: str) -> None:
        self.promoted.append((release_id, instead_of))
        self.current = release_id


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One trunk for all shops of this file."""
    return write_tiny_trunk(tmp_path_factory.mktemp("trunk") / "tiny-shop")


@pytest.fixture
def shop(trunk: Path, tmp_path: Path) -> Shop:
    """A shop whose base release has an untrained head, and 400 reviews."""
    torch.manual_seed(0)
    store = ReleaseStore(tmp_path / "store")
    (tmp_path / "room").mkdir()
    head = write_tiny_head(tmp_path / "head")
    base = publish_folder(store, trunk, tmp_path / "room", heads={"sentiment": head})
    samples = export(tmp_path / "samples", make_reviews(400))
    gate = GateOptions(min_cases=60)
    options = JobOptions(samples, tmp_path / "work", min_train=100, min_new=50, gate=gate)
    return Shop(store, options, base)


def test_new_samples_become_a_better_release(shop: Shop) -> None:
    """The head learns, passes the gate on the newest slice, and is released on the old trunk."""
    base = shop.current
    report = shop.run()
    assert [decision.passed for decision in report.decisions] == [True]
    assert report.release_id is not None
    assert shop.promoted == [(report.release_id, base)]
    manifest = shop.store.manifest(report.release_id)
    assert manifest.parents == (base,)
    assert manifest.gate == report.decisions
    learnt, tested = manifest.data["sentiment"], manifest.gate[0].test_slice
    assert learnt.last is not None
    assert tested.first is not None
    assert learnt.last < tested.first
    assert (learnt.samples, tested.cases) == (320 - learnt_twice(shop, tested.first), 80)
    assert manifest.gate[0].primary is not None
    assert manifest.gate[0].primary.candidate.value > 0.9
    marks = decode_shoppers(shop.store.lineage_file(report.release_id, "sentiment.shoppers") or b"")
    assert shopper_mark("user-5") in marks
    new, old = (shop.store.fetch(name) for name in (report.release_id, base))
    assert os.path.samefile(new / "model.safetensors", old / "model.safetensors")
    assert load(parts_of(new).heads["sentiment"]).trunk_weights
    assert not (shop.options.work / "run").exists()


def learnt_twice(shop: Shop, test_from: str) -> int:
    """Return how many older reviews say word for word what a tested one says."""
    reviews = make_reviews(400)
    tested = {one.text for one in reviews if one.occurred_at >= test_from}
    return sum(one.text in tested for one in reviews if one.occurred_at < test_from)


def test_without_new_samples_nothing_is_trained(shop: Shop) -> None:
    """A second job finds nothing new, says so and changes nothing; new samples wake it."""
    shop.run()
    before = shop.store.ids()
    report = shop.run()
    assert (report.release_id, report.decisions) == (None, ())
    assert "0 new samples since the last job" in report.skipped["sentiment"]
    assert shop.store.ids() == before
    export(shop.options.samples, make_reviews(120, first=400, seed=1))
    assert "120 new samples" not in str(shop.run().skipped)


def test_a_candidate_without_gain_is_refused_and_noted(shop: Shop) -> None:
    """A head that is no better than the trained one stays unpublished; its numbers are kept."""
    shop.run()
    current, before = shop.current, shop.store.ids()
    export(shop.options.samples, make_reviews(120, first=400, seed=1))
    report = shop.run()
    assert report.release_id is None
    assert (shop.current, shop.store.ids()) == (current, before)
    (refused,) = refusals_of(shop.store, current)
    assert refused == report.decisions[0]
    assert "does not lie above 0" in refused.reasons[0]


def test_flipped_labels_are_refused(shop: Shop) -> None:
    """When labels to learn from are flipped and the newest are not, the candidate is refused."""
    shop.run()
    poisoned = make_reviews(400, first=400, seed=2, flipped=True)
    export(shop.options.samples, [*poisoned, *make_reviews(200, first=800, seed=3)])
    report = shop.run()
    assert report.release_id is None
    assert not report.decisions[0].passed


def test_too_few_samples_fail_with_the_number_needed(shop: Shop, tmp_path: Path) -> None:
    """A tiny folder, an empty one and one class only end in a sentence, and nothing is released."""
    few = export(tmp_path / "few", make_reviews(30))
    with pytest.raises(JobFailed, match="30 samples are too few: 160 are needed"):
        shop.run(samples=few)
    with pytest.raises(JobFailed, match="holds no samples of the kind 'review'"):
        shop.run(samples=tmp_path / "none")
    glad = [one for one in make_reviews(900) if one.stars == 5.0]
    report = shop.run(samples=export(tmp_path / "glad", glad))
    assert "no negative, neutral reviews" in report.decisions[0].reasons[0]
    assert len(shop.store.ids()) == 1


def test_a_forgotten_shopper_marks_the_release_and_leaves_the_next(shop: Shop) -> None:
    """The release that knew the shopper is marked; the next job trains anew, without those."""
    shop.run()
    known = shop.current
    export(shop.options.samples, [forget("user-5", hour=10_000)])
    export(shop.options.samples, make_reviews(120, first=400, seed=1))
    report = shop.run()
    assert report.marked == {known: 1}
    assert forgotten_in(shop.store, known) == {"sentiment": [shopper_mark("user-5")]}
    (decision,) = report.decisions
    assert (decision.rule, decision.passed) == ("no-loss", True)
    assert report.release_id is not None
    manifest = shop.store.manifest(report.release_id)
    assert not manifest.data["sentiment"].warm_start
    marks = decode_shoppers(shop.store.lineage_file(report.release_id, "sentiment.shoppers") or b"")
    assert shopper_mark("user-5") not in marks
    assert shopper_mark("user-6") in marks
    assert shop.run().marked == {known: 1}


class Killed(BaseException):
    """Stands for the end of the process: nothing may handle it."""


@pytest.mark.parametrize("moves", range(8))
def test_a_job_killed_anywhere_goes_on_and_publishes_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    """Killed before any of its renamings, the job goes on; nobody ever sees half a release."""
    left = moves

    def killing(move: Any) -> Any:
        def count(*arguments: Any, **more: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return move(*arguments, **more)

        return count

    base = shop.current
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killing(Path.rename))
        patch.setattr(os, "replace", killing(os.replace))
        with pytest.raises(Killed):
            shop.run()
    for release_id in shop.store.ids():
        shop.store.fetch(release_id)
    was_promoted = bool(shop.promoted)
    report = shop.run()
    assert report.went_on == (0 < moves < 7)
    assert (report.release_id is None) == was_promoted
    assert sorted(shop.store.ids()) == sorted({base, shop.current})
    assert [instead_of for _, instead_of in shop.promoted] == [base]


def test_a_full_disk_is_said_and_the_job_goes_on_later(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up ends the job with one sentence; with room again it finishes."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model")

    with monkeypatch.context() as patch:
        patch.setattr("training.job.assembly.assemble_release", full)
        with pytest.raises(JobFailed, match="the disk is full"):
            shop.run()
    assert len(shop.store.ids()) == 1
    report = shop.run()
    assert report.went_on
    assert report.release_id == shop.current


def test_a_lost_lock_publishes_nothing(shop: Shop) -> None:
    """When the lock is lost before the publication, the job ends and the store is unchanged."""

    class LockGone(Exception):
        pass

    def check() -> None:
        shop.checks += 1
        if shop.checks == 2:
            raise LockGone

    shop._check = check  # type: ignore[method-assign]
    with pytest.raises(LockGone):
        shop.run()
    assert (len(shop.store.ids()), shop.promoted) == (1, [])
    assert shop.run().went_on


def test_half_written_samples_are_reported(shop: Shop) -> None:
    """A Parquet file that was cut is left out and named, the others are learnt from."""
    (day,) = (shop.options.samples / "review").glob("date=2025-01-02")
    file = day / "samples.parquet"
    file.write_bytes(file.read_bytes()[:50])
    report = shop.run()
    assert report.release_id is not None
    assert "date=2025-01-02/samples.parquet" in " ".join(report.notes)
