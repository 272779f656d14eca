"""LoRA: a product of two thin matrices beside every linear layer (Hu et al. 2021, arXiv:2106.09685)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tuneoff.errors import UserError
from tuneoff.prompts import AS_GIVEN, Prompting
from tuneoff.spec.run import Scalar

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn

    from tuneoff.data import Example
    from tuneoff.models import BaseModel

ALL_LINEAR = "all-linear"


@dataclass
class LowRank:
    """A base model whose linear layers carry low-rank products."""

    peft_model: PeftModel
    dropout: float = 0.0
    seed: int = 0
    model: nn.Module = field(init=False)
    details: dict[str, Any] = field(default_factory=dict)
    prompting: Prompting = AS_GIVEN

    def __post_init__(self) -> None:
        self.model = self.peft_model.get_base_model()
        from tuneoff.engine.kernels.low_rank import fuse_lora_layers

        self._masks = fuse_lora_layers(self.model, self.dropout, self.seed)
        matched = [name.rsplit(".", 1)[-1] for name in self.peft_model.base_model.targeted_module_names]
        self.details["target_modules"] = {name: matched.count(name) for name in sorted(set(matched))}

    def prefix(self) -> Tensor | None:
        return None

    def suffix(self) -> Tensor | None:
        return None

    def state(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.model.named_parameters() if tensor.requires_grad}

    def train_mode(self, on: bool) -> None:
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils.other import ModulesToSaveWrapper

        # As with a soft prompt: dropout of a model that does not learn is only noise on the gradient.
        self.model.eval()
        if on:
            for module in self.model.modules():
                if isinstance(module, BaseTunerLayer | ModulesToSaveWrapper):
                    module.train()
            if self._masks is not None:
                self._masks.next_step()

    def save(self, folder: Path) -> Literal["peft"]:
        self.peft_model.save_pretrained(folder, save_embedding_layers=False)
        return "peft"

    def merge(self) -> None:
        self.model = self.peft_model.merge_and_unload()


@dataclass(frozen=True)
class Lora:
    """Low-rank adaptation of the linear layers, the head left out."""

    name: ClassVar[str] = "lora"
    title: ClassVar[str] = "LoRA"
    trains: ClassVar[bool] = True
    seeded: ClassVar[bool] = True
    search: ClassVar[Mapping[str, tuple[float, float]]] = {"learning_rate": (1e-4, 3e-3)}
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {}
    source: ClassVar[str] = "Hu et al. 2021, arXiv:2106.09685; all layers and about ten times the rate of full tuning: \
Schulman et al. 2025, LoRA Without Regret"

    variant: ClassVar[Mapping[str, Any]] = {}  # what a descendant sets in PEFT's configuration

    r: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.1
    target_modules: tuple[str, ...] = (ALL_LINEAR,)
    learning_rate: float = 1e-3
    weight_decay: float = 0.0

    @property
    def overhead_tokens(self) -> int:
        return 0

    def adapt(self, base: BaseModel, train: Sequence[Example], seed: int) -> LowRank:  # noqa: ARG002
        from peft import LoraConfig, TaskType, get_peft_model

        everything = self.target_modules == (ALL_LINEAR,)
        if not everything:
            self._check_targets(base.model)
        config = LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=self.r,
            lora_alpha=self.lora_alpha,
            lora_dropout=self.lora_dropout,
            target_modules=ALL_LINEAR if everything else list(self.target_modules),
            fan_in_fan_out=has_conv1d(base.model),
            **self.variant,
        )
        from tuneoff.engine.seeding import seed_everything

        seed_everything(seed)
        # The optimiser keeps fp32 masters itself, so the adapter computes in the dtype of the model.
        adapted = get_peft_model(base.model, config, autocast_adapter_dtype=False, revision=base.revision)
        return LowRank(adapted, self.lora_dropout, seed)

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

    def restore(self, base: BaseModel, folder: Path) -> LowRank:
        from peft import PeftModel

        return LowRank(PeftModel.from_pretrained(base.model, str(folder), autocast_adapter_dtype=False))


def has_conv1d(model: nn.Module) -> bool:
    """GPT-2 stores its weights transposed; PEFT has to be told."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())
