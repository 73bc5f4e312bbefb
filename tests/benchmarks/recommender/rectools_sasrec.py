"""SASRec of RecTools, run by the peer's own Python: arrays in, vectors and times out.

    python rectools_sasrec.py IN.npz OUT.npz '{"epochs": 3, ...}'

IN holds `users` and `items` (N,) of training, in time order, and `asked_users`, `asked_items`: the
histories of the users that are asked for. OUT holds their vectors, those of the items the model
kept, and each epoch's seconds of the clock and of the processor. Knows nothing of the project, so
that the two never share an environment.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel


class EpochClock(Callback):
    """Keeps the seconds of each training epoch: of the clock, and of the processor."""

    seconds: ClassVar[list[tuple[float, float]]] = []  # of all: RecTools trains with a deep copy

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._started = time.perf_counter(), time.process_time()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        clock_s = time.perf_counter() - self._started[0]
        cpu_s = time.process_time() - self._started[1]
        self.seconds.append((clock_s, cpu_s))
        said = f"epoch {len(self.seconds)}: {clock_s:.1f} s, of the processor {cpu_s:.1f} s"
        print(said, file=sys.stderr, flush=True)


def frame(users: np.ndarray, items: np.ndarray) -> pd.DataFrame:
    """Return interactions whose order is their time."""
    return pd.DataFrame(
        {
            Columns.User: users,
            Columns.Item: items,
            Columns.Weight: 1.0,
            Columns.Datetime: pd.to_datetime(np.arange(len(users)), unit="s"),
        }
    )


def main() -> None:
    """Train, encode the users asked for, write."""
    source, target, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    epochs, seed = options.pop("epochs"), options.pop("seed")
    torch.set_num_threads(options.pop("threads"))
    torch.manual_seed(seed)
    np.random.seed(seed)
    data = np.load(source)

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=epochs,
            accelerator="auto",
            devices=1,
            callbacks=[EpochClock()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    model = SASRecModel(get_trainer_func=trainer, epochs=epochs, **options)
    model.fit(Dataset.construct(frame(data["users"], data["items"])))
    asked = np.unique(data["asked_users"])
    asked_dataset = Dataset.construct(frame(data["asked_users"], data["asked_items"]))
    preparator = model.data_preparator
    known = preparator.transform_dataset_u2i(asked_dataset, asked)
    vectors, item_vectors = model.lightning_model._get_user_item_embeddings(
        preparator.get_dataloader_recommend(known, 256), None
    )
    np.savez(
        target,
        users=known.user_id_map.external_ids.astype(np.int64),
        user_vectors=vectors.cpu().numpy(),
        items=preparator.get_known_item_ids().astype(np.int64),
        item_vectors=item_vectors.cpu().numpy()[preparator.n_item_extra_tokens :],
        epoch_s=np.array(EpochClock.seconds),
    )


if __name__ == "__main__":
    main()
