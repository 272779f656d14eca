"""(IA)3: a learned factor for each key, value and inner feed-forward activation (Liu et al. 2022, arXiv:2205.05638)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.errors import UserError
from tuneoff.methods.base import AdaptedModel, Method
from tuneoff.methods.hyperparameters import bounded
from tuneoff.methods.peft_layers import PeftLayers, add_peft_layers, has_conv1d, load_peft_layers

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from tuneoff.data import Example
    from tuneoff.models import BaseModel

# Endings of module names in the decoder families of transformers.
_KEYS_AND_VALUES = ("k_proj", "v_proj", "attn.c_attn", "query_key_value", "qkv_proj")
_INTO_FEEDFORWARD = ("down_proj", "mlp.c_proj", "mlp.fc2", "fc2", "dense_4h_to_h")


@dataclass(frozen=True)
class IA3(Method):
    """Learned factors on activations; nothing else trains."""

    name = "ia3"
    title = "(IA)³"
    source = "Liu et al. 2022, arXiv:2205.05638; rate: PEFT's method_comparison"
    citation = """@inproceedings{liu2022fewshot,
  author = {Liu, Haokun and Tam, Derek and Muqeeth, Mohammed and Mohta, Jay and Huang, Tenghao and Bansal, Mohit and
    Raffel, Colin},
  title = {Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {35},
  year = {2022}
}"""
    search = {"learning_rate": (5e-4, 3e-2)}

    learning_rate: float = bounded(3e-3, above=0, at_most=100)
    weight_decay: float = bounded(0.0, at_least=0, at_most=100)

    def apply(self, base: BaseModel, train: Sequence[Example], seed: int) -> AdaptedModel:
        from peft import IA3Config, TaskType

        scaled = _found_in(base.model, _KEYS_AND_VALUES)
        inner = _found_in(base.model, _INTO_FEEDFORWARD)
        config = IA3Config(
            task_type=TaskType.CAUSAL_LM,
            target_modules=[*scaled, *inner],
            feedforward_modules=inner,
            fan_in_fan_out=has_conv1d(base.model),
        )
        return PeftLayers(add_peft_layers(base, config))

    def check(self, model: PreTrainedModel) -> str | None:
        if not _found_in(model, _KEYS_AND_VALUES) or not _found_in(model, _INTO_FEEDFORWARD):
            raise UserError(
                f"ia3: {type(model).__name__} has no keys, values or feed-forward layers under a known name; use lora"
            )
        return None

    def restore(self, base: BaseModel, folder: Path) -> AdaptedModel:
        return load_peft_layers(base, folder)


def _found_in(model: nn.Module, endings: Sequence[str]) -> list[str]:
    """Those of `endings` with which the name of a module ends."""
    names = [name for name, _ in model.named_modules()]
    return [ending for ending in endings if any(name.endswith(f".{ending}") for name in names)]
