"""A language model of `transformers`: its trunk, its scores over the vocabulary, its loss.

Letters: B examples, L tokens, D width, V vocabulary, M asked tokens.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.text_encoder import pool
from training.language.masking import IGNORED
from training.losses import clm_loss, mlm_loss, nsp_loss

Objective = Literal["mlm", "mlm-nsp", "clm"]
TrainingPooling = Literal["mean", "cls", "late"]


class LanguageModel(nn.Module):
    """A masked (`mlm`, `mlm-nsp`) or causal (`clm`) model with the loss it was made for."""

    def __init__(self, network: nn.Module, objective: Objective) -> None:
        """Take a network of `transformers` whose head fits the objective."""
        super().__init__()
        self.network: Any = network
        self.objective = objective

    @property
    def trunk(self) -> Any:
        """The encoder or decoder without its language head."""
        return self.network.base_model

    @property
    def width(self) -> int:
        """D, the length of the vectors."""
        return int(self.network.config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        found: torch.device = next(self.network.parameters()).device
        return found

    def states(self, batch: dict[str, Tensor], *, all_layers: bool = False) -> Any:
        """Return the trunk's output for `input_ids` and `attention_mask` (B, L)."""
        known = ("input_ids", "attention_mask", "token_type_ids")
        inputs = {name: batch[name] for name in known if name in batch}
        return self.trunk(**inputs, output_hidden_states=all_layers)

    def vectors(self, batch: dict[str, Tensor], pooling: TrainingPooling) -> Tensor:
        """Return unit vectors (B, D).

        `late` is for causal models, whose later states have read more: a mean with weights that
        grow with the place (SGPT, Muennighoff 2022, arXiv 2202.08904).
        """
        last: Tensor = self.states(batch).last_hidden_state  # (B, L, D)
        mask = batch["attention_mask"].bool()
        if pooling != "late":
            return pool(last, mask, pooling)
        weights = (mask.cumsum(1) * mask).unsqueeze(-1).float()  # (B, L, 1)
        return F.normalize((last.float() * weights).sum(1), dim=-1)

    def losses(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the losses of a batch of this objective's examples by name; L_pretrain: the sum.

        `mlm_loss`, and with `mlm-nsp` `nsp_loss`; `clm_loss` for a causal model.
        """
        if self.objective == "clm":
            scores = self.network(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).logits
            return {"clm_loss": clm_loss(scores, batch["labels"])}
        output = self.states(batch)
        labels = batch["labels"]
        asked = labels != IGNORED
        scores = self._vocabulary(output.last_hidden_state[asked])  # (M, V)
        losses = {"mlm_loss": mlm_loss(scores, labels[asked])}
        if self.objective == "mlm-nsp":
            follow_scores = self.network.cls.seq_relationship(output.pooler_output)  # (B, 2)
            losses["nsp_loss"] = nsp_loss(follow_scores, batch["follows"])
        return losses

    @torch.no_grad()
    def row_losses(self, batch: dict[str, Tensor]) -> list[float]:
        """Return each example's mean loss of its asked tokens; without NSP."""
        labels = batch["labels"]
        if self.objective == "clm":
            scores = self.network(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).logits[:, :-1]
            labels = labels[:, 1:]
            asked = labels != IGNORED
            scores = scores[asked]
        else:
            asked = labels != IGNORED
            scores = self._vocabulary(self.states(batch).last_hidden_state[asked])
        losses = F.cross_entropy(scores.float(), labels[asked], reduction="none")  # (M)
        rows = asked.nonzero()[:, 0]
        sums = torch.zeros(len(labels), device=losses.device).index_add_(0, rows, losses)
        counts = torch.bincount(rows, minlength=len(labels))
        return [float(s / c) for s, c in zip(sums, counts, strict=True) if c]

    @torch.no_grad()
    def follow_scores(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the NSP scores (B, 2) of sentence pairs."""
        scores: Tensor = self.network.cls.seq_relationship(self.states(batch).pooler_output)
        return scores

    def _vocabulary(self, states: Tensor) -> Tensor:
        """Return the scores (M, V) of states (M, D).

        Only the asked tokens are scored: the product with the vocabulary costs as much as a small
        trunk itself, and six of seven tokens are not asked for.
        """
        return language_head(self.network)(states)  # type: ignore[no-any-return]


def language_head(network: Any) -> Any:
    """Return the module that scores the vocabulary from states, whatever the family calls it.

    Raises:
        ValueError: the family is none of those known here.
    """
    for path in ("cls.predictions", "lm_head", "predictions"):
        module = network
        for name in path.split("."):
            module = getattr(module, name, None)
        if isinstance(module, nn.Module):
            return module
    if hasattr(network, "vocab_projector"):  # DistilBERT
        return nn.Sequential(
            network.vocab_transform,
            nn.GELU(),
            network.vocab_layer_norm,
            network.vocab_projector,
        )
    if hasattr(network, "head") and hasattr(network, "decoder"):  # ModernBERT
        return nn.Sequential(network.head, network.decoder)
    raise ValueError(f"the language head of {type(network).__name__} is not known here")
