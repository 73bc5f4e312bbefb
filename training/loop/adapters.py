"""LoRA: a small training for small machines, merged into the weights before they are saved.

Hu et al. 2021 (arXiv 2106.09685). Wants about ten times the learning rate of a full training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from training.language.language_model import LanguageModel


@dataclass(slots=True)
class Adapters:
    """LoRA adapters in all linear layers of a model's trunk."""

    language_model: LanguageModel
    _wrapped: Any

    def merge(self) -> None:
        """Add the adapters to the weights they stand beside, and take them out."""
        self.language_model.network = self._wrapped.merge_and_unload()


def add_adapters(language_model: LanguageModel, rank: int) -> Adapters:
    """Freeze the trunk and put adapters of this rank into it; its language head stays trainable."""
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    network = language_model.network
    prefix = f"{network.base_model_prefix}."
    head_weights = [
        weight for name, weight in network.named_parameters() if not name.startswith(prefix)
    ]
    linear = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and name.startswith(prefix)
    ]
    conv = any(isinstance(module, Conv1D) for module in network.modules())
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=linear, fan_in_fan_out=conv
    )
    wrapped = get_peft_model(network, config)
    for weight in head_weights:
        weight.requires_grad_(True)
    return Adapters(language_model, wrapped)
