"""LoRA and its variants: a product of two thin matrices beside every linear layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tuneoff.errors import UserError
from tuneoff.methods.base import AdaptedModel, Method
from tuneoff.methods.hyperparameters import bounded
from tuneoff.methods.peft_layers import PeftLayers, add_peft_layers, has_conv1d, load_peft_layers
from tuneoff.model_headers import layers_without

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from tuneoff.data import Example
    from tuneoff.model_folder import ModelFolder
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
    citation = """@inproceedings{hu2022lora,
  author = {Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan and Li, Yuanzhi and Wang, Shean and
    Wang, Lu and Chen, Weizhu},
  title = {{LoRA}: Low-Rank Adaptation of Large Language Models},
  booktitle = {International Conference on Learning Representations},
  year = {2022}
}"""
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

        experts = expert_parameters(base.model)
        targets: str | list[str] = list(self.target_modules)
        if self._all_linear:
            # With its own word, PEFT would adapt the experts too, which it cannot do with dropout.
            targets = linear_layers(base.model) if experts else ALL_LINEAR
        config = LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=self.r,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            target_modules=targets,
            fan_in_fan_out=has_conv1d(base.model),
            **self.variant,
        )
        left_out = self.check(base.model)
        adapted = PeftLayers(add_peft_layers(base, config, base.revision), self.lora_dropout, seed)
        adapted.notes = [left_out] if left_out else []
        return adapted

    def restore(self, base: BaseModel, folder: Path) -> AdaptedModel:
        return load_peft_layers(base, folder)

    @property
    def _all_linear(self) -> bool:
        return self.target_modules == (ALL_LINEAR,)

    def check(self, model: PreTrainedModel) -> str | None:
        if self._all_linear:
            if not linear_layers(model):
                raise UserError(f"{self.name}: {type(model).__name__} has no linear layer to adapt; use full")
            experts = expert_parameters(model)
            if not experts:
                return None
            share = experts / sum(parameter.numel() for parameter in model.parameters())
            return f"{self.name}: the experts are left out, which are {100 * share:.0f} % of the parameters"
        kinds = adaptable_layers(model)
        for target in self.target_modules:
            if not any(name == target or name.endswith(f".{target}") for name in kinds):
                raise self._no_layer(target, {name.rsplit(".", 1)[-1] for name in kinds})
        return None

    def check_folder(self, folder: ModelFolder) -> None:
        for target in () if self._all_linear else self.target_modules:
            if known := layers_without(folder, target):
                raise self._no_layer(target, known)

    def _no_layer(self, target: str, known: Iterable[str]) -> UserError:
        return UserError(
            f"{self.name}.target_modules: no layer of this model that LoRA can adapt is named {target!r}; "
            f"there are {', '.join(sorted(known))}"
        )


def adaptable_layers(model: nn.Module) -> list[str]:
    """The names of the layers that LoRA can adapt: linear, convolutional and embedding layers."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    kinds = (nn.Linear, Conv1D, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]


def linear_layers(model: PreTrainedModel) -> list[str]:
    """The names of the linear layers, except the head."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    return [
        name for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D) and module is not head
    ]


def expert_parameters(model: nn.Module) -> int:
    """Parameters of experts that are stored as one tensor for all experts of a layer, not as layers."""
    return sum(
        parameter.numel()
        for name, module in model.named_modules()
        if name.rsplit(".", 1)[-1] == "experts"
        for parameter in module.parameters(recurse=False)
    )


@dataclass(frozen=True)
class DoRA(LoRA):
    """Weight-decomposed low-rank adaptation: magnitude and direction of a weight train separately."""

    name = "dora"
    title = "DoRA"
    source = "Liu et al. 2024, arXiv:2402.09353; rates as for LoRA"
    citation = """@inproceedings{liu2024dora,
  author = {Liu, Shih-Yang and Wang, Chien-Yi and Yin, Hongxu and Molchanov, Pavlo and Wang, Yu-Chiang Frank and
    Cheng, Kwang-Ting and Chen, Min-Hung},
  title = {{DoRA}: Weight-Decomposed Low-Rank Adaptation},
  booktitle = {International Conference on Machine Learning},
  year = {2024}
}"""
    variant = {"use_dora": True}


@dataclass(frozen=True)
class RsLoRA(LoRA):
    """Rank-stabilized LoRA: the product is scaled by alpha over the square root of r."""

    name = "rslora"
    title = "rsLoRA"
    source = "Kalajdzievski 2023, arXiv:2312.03732; rates as for LoRA"
    citation = """@misc{kalajdzievski2023rank,
  author = {Kalajdzievski, Damjan},
  title = {A Rank Stabilization Scaling Factor for Fine-Tuning with {LoRA}},
  year = {2023},
  eprint = {2312.03732},
  archivePrefix = {arXiv}
}"""
    variant = {"use_rslora": True}
