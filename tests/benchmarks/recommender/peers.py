"""Peers in environments of their own, so that nothing of theirs enters the project's.

The first call makes `.shopstream/peers/rectools` (139 MB): RecTools with the packages it needs at
the versions it allows, and a path to this environment's packages, so that torch is not fetched
again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.interactions import Rows
from training.data.splits import Cases, Split
from training.evaluation.full_ranking import Scores

ROOT = Path(__file__).resolve().parents[3]
RECTOOLS = ROOT / ".shopstream" / "peers" / "rectools"
_PACKAGES = (
    "rectools==0.19.0", "numpy==1.26.4", "pandas==2.3.3", "pytorch-lightning==2.5.2",
    "torchmetrics==1.9.0", "lightning-utilities==0.15.3", "pm-implicit==0.7.3", "attrs==23.2.0",
    "typeguard==4.6.1", "fastrlock==0.8.4",
)  # fmt: skip
_SCRIPT = Path(__file__).with_name("rectools_sasrec.py")


@dataclass(frozen=True, slots=True)
class SasRecOptions:
    """RecTools' SASRec; the names are those of its `SASRecModel`."""

    epochs: int = 10
    seed: int = 7
    threads: int = 1
    n_blocks: int = 2
    n_heads: int = 2
    n_factors: int = 128
    dropout_rate: float = 0.2
    session_max_len: int = 200
    loss: str = "softmax"
    n_negatives: int = 256
    lr: float = 1e-3
    batch_size: int = 128


class PeerFailed(Exception):
    """A peer could not be installed or run; the message says what to do."""


@dataclass(frozen=True, slots=True)
class PeerSasRec:
    """A trained SASRec of RecTools, as a `Scorer` of the cases it was asked about, in their order.

    Items that RecTools leaves out (those older than its window for every user) get -inf.
    """

    name: str
    users: Rows  # (n,)
    user_vectors: NDArray[np.float32]  # (n, D)
    item_vectors: NDArray[np.float32]  # (V, D), NaN where the model has none
    epoch_s: Sequence[tuple[float, float]]  # of the clock, of the processor
    case_users: list[int]  # of the cases not yet scored

    def score(self, histories: Sequence[Rows], times_ms: Sequence[Rows] | None) -> Scores:
        """Return the scores of the next cases, (n, V)."""
        scores = np.full((len(histories), len(self.item_vectors)), -np.inf, np.float32)
        known = ~np.isnan(self.item_vectors[:, 0])
        place = {int(user): row for row, user in enumerate(self.users)}
        for row in range(len(histories)):
            found = place.get(self.case_users.pop(0))
            if found is not None:
                scores[row, known] = self.item_vectors[known] @ self.user_vectors[found]
        return scores


def train_sasrec(split: Split, cases: Cases, options: SasRecOptions) -> PeerSasRec:
    """Train RecTools' SASRec on the training part and encode the cases' histories.

    Raises:
        PeerFailed: the peer cannot be installed (a network is needed once) or fails.
    """
    python = _install()
    lengths = [len(history) for history in cases.histories]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(
            source,
            users=split.train.users,
            items=split.train.items,
            asked_users=np.repeat(cases.users, lengths),
            asked_items=np.concatenate(list(cases.histories)),
        )
        command = [str(python), "-W", "ignore", str(_SCRIPT), str(source), str(target)]
        environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": str(options.threads)}
        done = subprocess.run([*command, json.dumps(asdict(options))], env=environment)
        if done.returncode:
            raise PeerFailed(f"RecTools' SASRec ended with status {done.returncode}, see above")
        found = np.load(target)
        item_vectors = np.full(
            (split.train.item_count, found["item_vectors"].shape[1]), np.nan, np.float32
        )
        item_vectors[found["items"]] = found["item_vectors"]
        return PeerSasRec(
            "SASRec (RecTools)",
            found["users"],
            found["user_vectors"],
            item_vectors,
            found["epoch_s"].tolist(),
            cases.users.tolist(),
        )


def _install() -> Path:
    python = RECTOOLS / "bin" / "python"
    packages = RECTOOLS / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    if (packages / "rectools").is_dir():
        return python
    print(f"installing RecTools into {RECTOOLS.relative_to(ROOT)} …", file=sys.stderr, flush=True)
    venv.create(RECTOOLS, with_pip=False)
    command = [sys.executable, "-m", "uv", "pip", "install", "--python", str(python), "--no-deps"]
    done = subprocess.run([*command, *_PACKAGES], stdout=sys.stderr)
    if done.returncode:
        raise PeerFailed("RecTools cannot be installed: a package index is needed once")
    (packages / "shopstream.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python
