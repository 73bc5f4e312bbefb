"""The training of the recommender: next purchase, packed windows, early stop on held-out purchases.

Every step's batch and dropout follow from the seed and the step's number, so a training that was
killed and resumed gives the weights of one that was not (a time limit aside, whose learning rate
follows the clock). The same code runs on a CPU, on a GPU and, under `accelerate launch`, on
several: each process takes its share of the batches, and gradients are summed.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from models.recommender import RecommenderConfig, RecommenderNetwork
from training.processes import leave_at_exit
from training.recommender.checkpoint import (
    TrainingState,
    Weights,
    read_checkpoint,
    write_checkpoint,
)
from training.recommender.memory import keep_freed_memory
from training.recommender.neighbour_weights import add_neighbours
from training.recommender.next_item_step import LossOptions, batch_loss, negative_draw
from training.recommender.optimizers import Optimizers
from training.recommender.options import (
    Progress,
    RecommenderTraining,
    TrainedRecommender,
    low_precision,
)
from training.recommender.sequences.batches import EpochPlan, fill, padding_share, plan_epoch
from training.recommender.sequences.event_sequences import EventSequences
from training.recommender.sequences.held_out import HeldOut, ndcg_and_hit_rate, ranks
from training.recommender.shared_work import SharedWork
from training.recommender.succession_counts import count_successors

__all__ = [
    "Progress", "RecommenderTraining", "TrainedRecommender", "TrainingFailed",
    "train_recommender",
]  # fmt: skip

logger = logging.getLogger(__name__)

_STEPS_PER_VALIDATION = 100
_LEAST_STEPS_PER_EPOCH, _LEAST_TOKENS = 20, 256


class TrainingFailed(Exception):
    """The training cannot go on; the message says what to try."""


def train_recommender(
    config: RecommenderConfig,
    sequences: EventSequences,
    held: HeldOut | None,
    options: RecommenderTraining,
    loss: LossOptions,
    checkpoints: Path | None = None,
    *,
    resume: bool = False,
    accelerator: Accelerator | None = None,
    report: Callable[[Progress], None] | None = None,
) -> TrainedRecommender:
    """Train until `epochs`, the time limit or `patience` validations without a better.

    Without held-out purchases nothing is validated, and the last weights are kept.

    Checkpoints go below `checkpoints`, from where `resume` goes on. Raises TrainingFailed,
    CheckpointUnfit.
    """
    keep_freed_memory()
    leave_at_exit()
    torch.manual_seed(options.seed)
    run = _Run(config, sequences, held, options, loss, accelerator or Accelerator(), report)
    if resume:
        assert checkpoints is not None
        run.state = read_checkpoint(checkpoints, run.state.fingerprint, run.weights, run.optimizers)
    run.train(checkpoints)
    network = run.network
    network.load_state_dict(run.weights.best)
    if config.neighbours:  # in every process, so that all end alike
        told = add_neighbours(network, sequences, held, options)
        if run.accelerator.is_main_process:
            logger.info("%s", told)
    state = run.state
    return TrainedRecommender(network, state.epochs, state.best, state.elapsed_s, state.step)


class _Run:
    """One training: the loop, its learning rate and its validation."""

    def __init__(
        self,
        config: RecommenderConfig,
        sequences: EventSequences,
        held: HeldOut | None,
        options: RecommenderTraining,
        loss: LossOptions,
        accelerator: Accelerator,
        report: Callable[[Progress], None] | None,
    ) -> None:
        self.config, self.sequences = config, sequences
        self.held = None if held is None else held.sample(options.validation_cases, options.seed)
        self.options, self.loss, self.report = options, loss, report
        self.negatives = negative_draw(sequences, loss)
        self.accelerator, self.shared = accelerator, SharedWork(accelerator)
        self.network = RecommenderNetwork(config).to(accelerator.device)
        if config.successors:
            count_successors(self.network.successors, sequences, options.visits, options.seed)
        average = _learnt(self.network) if options.average_decay else {}
        self.weights = Weights(self.network, {k: v.clone() for k, v in average.items()}, {})
        self.optimizers = Optimizers(self.network, options)
        self.low_precision = low_precision(options.precision, accelerator.device)
        self.state = TrainingState(self._fingerprint())
        self.started = time.monotonic()
        self.max_tokens = self._max_tokens()
        steps = self._steps_per_epoch()
        self.epochs = max(options.epochs, -(-options.min_steps // steps))
        self.validate_every = options.validate_every or -(-_STEPS_PER_VALIDATION // steps)
        self.planned_steps = self.epochs * steps

    def train(self, checkpoints: Path | None) -> None:
        """Run epochs until the end; a checkpoint now and then, and after each epoch."""
        self.started = time.monotonic() - self.state.elapsed_s
        saved = time.monotonic()
        while not self._is_over():
            plan = self._plan(self.state.epoch)
            while self.state.batch < len(plan.batches):
                self._step(plan)
                if time.monotonic() - saved >= self.options.checkpoint_every_s:
                    self._save(checkpoints)
                    saved = time.monotonic()
                if self._progress() >= 1.0:
                    break
            self._end_epoch()
            self._save(checkpoints)
            saved = time.monotonic()

    def _is_over(self) -> bool:
        state, options = self.state, self.options
        late = 0 < options.time_limit_s <= state.elapsed_s
        return state.epoch >= self.epochs or state.waited > options.patience or late

    def _max_tokens(self) -> int:
        """Return a batch's budget: of small data a twentieth, or an epoch would be few steps."""
        lengths = np.minimum(self.sequences.lengths, self.config.max_events) + 1
        processes = int(self.accelerator.num_processes)
        share = int(lengths.sum()) // (_LEAST_STEPS_PER_EPOCH * processes)
        return min(self.options.max_tokens, max(_LEAST_TOKENS, share))

    def _steps_per_epoch(self) -> int:
        """Return how many steps the first epoch has; the others differ little."""
        plan = self._plan(0)
        share = 100 * padding_share(plan.windows.lengths, plan.batches)
        logger.info("%d batches an epoch, %.1f %% padding", len(plan.batches), share)
        return math.ceil(len(plan.batches) / int(self.accelerator.num_processes))

    def _plan(self, epoch: int) -> EpochPlan:
        return plan_epoch(
            self.sequences,
            max_events=self.config.max_events,
            random_window_share=self.options.random_window_share,
            max_tokens=self.max_tokens,
            visits=self.options.visits,
            draw=np.random.default_rng([self.options.seed, epoch]),
        )

    def _step(self, plan: EpochPlan) -> None:
        state, world = self.state, self.accelerator.num_processes
        mine = state.batch + self.accelerator.process_index
        torch.manual_seed((self.options.seed * 1_000_003 + state.step) * world + mine)
        self.network.train()
        total, count = torch.zeros((), device=self.accelerator.device), 0
        if mine < len(plan.batches):
            rows, buckets = plan.batches[mine], self.config.gap_buckets
            batch = fill(self.sequences, plan.targets, plan.windows, rows, buckets)
            batch = batch.to(self.accelerator.device)
            count = int((batch.targets >= 0).sum())
            with torch.autocast(
                self.accelerator.device.type, torch.bfloat16, enabled=self.low_precision
            ):
                total = batch_loss(self.network, self.sequences, batch, self.loss, self.negatives)
        loss_sum, positions = self._update(total, count)
        state.loss_sum += loss_sum
        state.loss_count += positions
        state.step += 1
        state.batch += world
        if self.report is not None and self.accelerator.is_main_process:
            mean = state.loss_sum / max(1, state.loss_count)
            total_batches = len(plan.batches)
            done = min(state.batch, total_batches)
            self.report(
                Progress(state.epoch, done, total_batches, mean, state.best, state.elapsed_s)
            )

    def _update(self, total: Tensor, count: int) -> tuple[float, int]:
        """Take one step with the gradients of all processes; return loss sum and positions."""
        if count:
            total.backward()  # type: ignore[no-untyped-call]
        # one clock for all processes: what follows from it must not differ
        clock = time.monotonic() - self.started if self.accelerator.is_main_process else 0.0
        loss_sum, positions, self.state.elapsed_s = self.shared.summed(
            float(total.detach()), count, clock
        )
        if not math.isfinite(loss_sum):
            raise TrainingFailed(
                f"the loss is not a number after {self.state.step} steps; try a lower learning "
                f"rate than {self.options.learning_rate:g}, a longer warm-up, or precision fp32"
            )
        if positions:
            self.shared.sum_gradients(self.network, 1.0 / positions)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.options.max_gradient)
            self.optimizers.step(self.options.learning_rate * self._rate_share())
            self._average()
        self.network.zero_grad()
        return loss_sum, int(positions)

    def _average(self) -> None:
        if not self.weights.average:
            return
        # the average of a short past at first: fresh weights tell nothing
        decay = min(self.options.average_decay, (1 + self.state.step) / (10 + self.state.step))
        now = _learnt(self.network)
        kept = self.weights.average
        torch._foreach_lerp_([kept[k] for k in now], [now[k] for k in now], 1 - decay)

    def _progress(self) -> float:
        """Return how far the training has come, 0 to 1: by steps, or by the clock if sooner."""
        by_steps = self.state.step / self.planned_steps
        if not self.options.time_limit_s:
            return by_steps
        return max(by_steps, self.state.elapsed_s / self.options.time_limit_s)

    def _rate_share(self) -> float:
        """Return the learning rate's share: linear warm-up, then half a cosine to nothing."""
        warm = min(1.0, (self.state.step + 1) / max(1, self.options.warmup_steps))
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, self._progress())))

    def _end_epoch(self) -> None:
        state = self.state
        loss = state.loss_sum / max(1, state.loss_count)
        row = {"loss": loss, "elapsed_s": state.elapsed_s}
        state.epoch, state.batch, state.loss_sum, state.loss_count = state.epoch + 1, 0, 0.0, 0
        if self.held is None:
            self._keep()
        elif state.epoch % self.validate_every == 0 or self._is_over():
            row["ndcg@10"], row["hr@10"] = self._validate(self.held)
            self._judge(row["ndcg@10"])
        state.epochs.append(row)
        if self.accelerator.is_main_process:
            figures = ", ".join(f"{name} {value:.4f}" for name, value in row.items())
            best = " (best)" if row.get("ndcg@10") == state.best else ""
            logger.info("epoch %d of %d: %s%s", state.epoch, self.epochs, figures, best)

    def _judge(self, ndcg: float) -> None:
        """Keep the weights that are validated if they are the best so far."""
        if ndcg <= self.state.best:
            self.state.waited += 1
            return
        self.state.best, self.state.waited = ndcg, 0
        self._keep()

    def _keep(self) -> None:
        kept = self.network.state_dict() | self.weights.average
        self.weights.best = {k: v.detach().clone() for k, v in kept.items()}

    def _validate(self, held: HeldOut) -> tuple[float, float]:
        """Return NDCG@10 and HR@10 of the held-out purchases, each process ranking its share."""
        trained = {k: v.clone() for k, v in self.network.state_dict().items()}
        self.network.load_state_dict(trained | self.weights.average)
        part = held.part(self.accelerator.process_index, self.accelerator.num_processes)
        ndcg, hits = 0.0, 0.0
        if cases := len(part.targets):
            ndcg, hits = ndcg_and_hit_rate(ranks(self.network, part, self.low_precision))
        self.network.load_state_dict(trained)
        ndcg, hits, total = self.shared.summed(ndcg * cases, hits * cases, cases)
        return ndcg / total, hits / total

    def _save(self, checkpoints: Path | None) -> None:
        if checkpoints is not None and self.accelerator.is_main_process:
            write_checkpoint(checkpoints, self.state, self.weights, self.optimizers)

    def _fingerprint(self) -> dict[str, Any]:
        options = asdict(self.options)
        del options["checkpoint_every_s"]
        return {
            **self.config.to_json(),
            **options,
            **asdict(self.loss),
            "processes": self.accelerator.num_processes,
            "shoppers": self.sequences.shoppers,
            "events": len(self.sequences.inputs),
            "held_out": 0 if self.held is None else len(self.held.targets),
        }


def _learnt(network: RecommenderNetwork) -> dict[str, Tensor]:
    """Return the weights that training moves; what is counted stays as it is."""
    return {name: one.detach() for name, one in network.named_parameters()}
