"""LoRA and its variants: a product of two thin matrices beside every linear layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tuneoff.errors import UserError
from tuneoff.methods.base import AdaptedModel, Method
from tuneoff.methods.hyperparameters import bounded
from tuneoff.methods.peft_layers import PeftLayers, add_peft_layers, has_conv1d, load_peft_layers

if TYPE_CHECKING:
    from torch import nn

    from tuneoff.data import Example
    from tuneoff.models import BaseModel

ALL_LINEAR = "all-linear"  # PEFT's name for every linear layer except the head


@dataclass(frozen=True)
class LoRA(Method):
    """Low-rank adaptation of the linear layers, except the head."""

    name = "lora"
    title = "LoRA"
    source = (
        "Hu et al. 2021, arXiv:2106.09685; all layers and about ten times the rate of full tuning: "
        "Schulman et al. 2025, LoRA Without Regret"
    )
    search = {"learning_rate": (1e-4, 3e-3)}
    variant: ClassVar[Mapping[str, bool]] = {}  # what a variant sets in PEFT's configuration

    r: int = bounded(16, at_least=1, at_most=65536)
    lora_alpha: int = bounded(32, at_least=1, at_most=65536)
    lora_dropout: float = bounded(0.1, at_least=0, below=1)
    target_modules: tuple[str, ...] = (ALL_LINEAR,)
    learning_rate: float = bounded(1e-3, above=0, at_most=100)
    weight_decay: float = bounded(0.0, at_least=0, at_most=100)

    def apply(self, base: BaseModel, train: Sequence[Example], seed: int) -> AdaptedModel:
        from peft import LoraConfig, TaskType

        all_linear = self.target_modules == (ALL_LINEAR,)
        if not all_linear:
            self._check_targets(base.model)
        config = LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=self.r,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            target_modules=ALL_LINEAR if all_linear else list(self.target_modules),
            fan_in_fan_out=has_conv1d(base.model),
            **self.variant,
        )
        return PeftLayers(add_peft_layers(base, config, base.revision), self.lora_dropout, seed)

    def restore(self, base: BaseModel, folder: Path) -> AdaptedModel:
        return load_peft_layers(base, folder)

    def _check_targets(self, model: nn.Module) -> None:
        names = [name for name, _ in model.named_modules()]
        for target in self.target_modules:
            if not any(name == target or name.endswith(f".{target}") for name in names):
                last = sorted(
                    {name.rsplit(".", 1)[-1] for name in names if name and not name.rsplit(".", 1)[-1].isdigit()}
                )
                raise UserError(
                    f"{self.name}.target_modules: no module of this model is named {target!r}; "
                    f"there are {', '.join(last)}"
                )


@dataclass(frozen=True)
class DoRA(LoRA):
    """Weight-decomposed low-rank adaptation: magnitude and direction of a weight train separately."""

    name = "dora"
    title = "DoRA"
    source = "Liu et al. 2024, arXiv:2402.09353; rates as for LoRA"
    variant = {"use_dora": True}


@dataclass(frozen=True)
class RsLoRA(LoRA):
    """Rank-stabilized LoRA: the product is scaled by alpha over the square root of r."""

    name = "rslora"
    title = "rsLoRA"
    source = "Kalajdzievski 2023, arXiv:2312.03732; rates as for LoRA"
    variant = {"use_rslora": True}
