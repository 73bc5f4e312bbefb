"""transformers' Trainer with our losses, our schedule, and a stop where the loss is no number."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import TRAINER_STATE_NAME
from transformers.utils import SAFE_WEIGHTS_NAME

from models.text.checkpoint import quiet_transformers
from training.loop.faults import is_file_fault
from training.loop.options import LoopOptions, TrainingDiverged, TrainingFailed
from training.loop.schedule import Steps
from training.processes import leave_at_exit

logger = logging.getLogger(__name__)

MakeBatch = Callable[[int], dict[str, Any]]
_LOG_EVERY_S = 10.0


def run_loop(
    module: nn.Module, make_batch: MakeBatch, steps: int, options: LoopOptions, folder: Path
) -> dict[str, float]:
    """Train a module whose `forward(**batch)` returns losses by name, `loss` the one to minimise.

    Goes on from the newest checkpoint in `folder`, bit for bit as if it had never stopped.

    Args:
        make_batch: a step (from 0) -> the batch; nothing else may decide what it holds.
        steps: how many optimiser steps.

    Returns:
        The mean of each loss over the last tenth of the steps.

    Raises:
        TrainingDiverged: the loss is no number.
        TrainingFailed: the checkpoints cannot be written or read.
    """
    if options.threads > 0:
        torch.set_num_threads(options.threads)
    leave_at_exit()
    trainer = _Trainer(
        model=module,
        args=_arguments(steps, options, folder),
        data_collator=lambda step: make_batch(step[0]),
        callbacks=[_LogLines()],
    )
    trainer.remove_callback(PrinterCallback)  # it prints to standard output
    trainer.train_dataset = Steps(steps * options.accumulation * trainer.args.world_size)
    last = _newest_checkpoint(folder)
    if last is not None:
        logger.info("going on from %s", last)
    try:
        with quiet_transformers():
            trainer.train(resume_from_checkpoint=last)
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, TrainingFailed) or not is_file_fault(error):
            raise
        raise TrainingFailed(
            f"the checkpoints in {folder} cannot be written or read ({error}): make room, then run "
            "the same command again; it goes on where it stopped"
        ) from error
    return trainer.recent_losses()


def _newest_checkpoint(folder: Path) -> str | None:
    """Return the newest checkpoint that is whole: its state is the last file to be written."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    for path in reversed(found):
        try:
            json.loads((path / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
            return str(path)
        except (OSError, ValueError):
            logger.warning("%s is half-written and is passed over", path)
    return None


class _Trainer(Trainer):
    """The Trainer, with the losses of our modules."""

    def __init__(self, **known: Any) -> None:
        super().__init__(**known)
        self.model_accepts_loss_kwargs = False  # our losses are means of a batch
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        losses: dict[str, Tensor] = model(**inputs)
        loss = losses["loss"]
        if not torch.isfinite(loss):
            step = self.state.global_step + 1
            raise TrainingDiverged(
                f"the loss is {float(loss.detach())} at step {step}: try a lower --learning-rate "
                f"(now {self.args.learning_rate:g}) or a larger --batch, and look at the texts"
            )
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach())
            self._counts[name] = self._counts.get(name, 0) + 1
        return (loss, losses) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" not in logs:  # the summary at the end, of times and counts we do not report
            return
        means = self.recent_losses()
        self._sums.clear()
        self._counts.clear()
        super().log({**logs, **means}, start_time)

    def recent_losses(self) -> dict[str, float]:
        """Return the mean of each loss since the last log line, or in it."""
        if self._counts:
            return {name: total / self._counts[name] for name, total in self._sums.items()}
        for line in reversed(self.state.log_history):
            if "loss" in line:
                return {key: value for key, value in line.items() if key.endswith("loss")}
        return {}

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None
    ) -> None:
        # Trainer refuses the shared tensors of a tied head in a module that is no PreTrainedModel.
        folder = output_dir or str(self.args.output_dir)
        os.makedirs(folder, exist_ok=True)
        assert self.model is not None
        safetensors.torch.save_model(self.model, os.path.join(folder, SAFE_WEIGHTS_NAME))

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        assert self.model is not None
        path = os.path.join(resume_from_checkpoint, SAFE_WEIGHTS_NAME)
        safetensors.torch.load_model(self.model, path)


class _LogLines(TrainerCallback):
    """Says in the log, every few seconds, how far the training is and what the losses are."""

    def __init__(self) -> None:
        self._began_s = self._shown_s = time.monotonic()
        self._first_step = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._began_s = self._shown_s = time.monotonic()
        self._first_step = state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        now_s = time.monotonic()
        done = state.global_step - self._first_step
        if not done:
            return
        if now_s - self._shown_s < _LOG_EVERY_S and state.global_step < state.max_steps:
            return
        self._shown_s = now_s
        left_s = (state.max_steps - state.global_step) * (now_s - self._began_s) / done
        losses = _losses_text(logs or {})
        logger.info(
            "step %d of %d: %s, %.0f s left", state.global_step, state.max_steps, losses, left_s
        )


def _losses_text(logs: dict[str, float]) -> str:
    names = [name for name in logs if name.endswith("loss")]
    return ", ".join(f"{name.replace('_', ' ')} {logs[name]:.4f}" for name in names)


def _arguments(steps: int, options: LoopOptions, folder: Path) -> TrainingArguments:
    gpu = torch.cuda.is_available() and not options.cpu
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=1,  # one item is one whole batch of our schedule
        gradient_accumulation_steps=options.accumulation,
        learning_rate=options.learning_rate,
        warmup_steps=round(options.warmup_share * steps),
        lr_scheduler_type="linear",
        weight_decay=options.weight_decay,
        max_grad_norm=options.max_gradient_norm,
        seed=options.seed,
        bf16=gpu and torch.cuda.is_bf16_supported(),
        use_cpu=not gpu,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_pin_memory=gpu,
        logging_strategy="steps",
        logging_steps=max(1, min(50, steps // 10)),
        save_strategy="steps",
        save_steps=max(1, options.checkpoint_every_steps),
        save_total_limit=2,
        disable_tqdm=True,
        report_to="none",
        average_tokens_across_devices=False,
    )
