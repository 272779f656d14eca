"""A base model with layers of PEFT in it: what LoRA and its variants, (IA)3 and `peft:<TYPE>` make of a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.export.formats import ArtefactFormat
from tuneoff.methods.base import AdaptedModel
from tuneoff.model_weights import adapts_shared_weight

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from torch import nn
    from transformers import PreTrainedModel

    from tuneoff.engine.kernels.low_rank import DropoutPool
    from tuneoff.models import BaseModel


@dataclass(eq=False)
class PeftLayers(AdaptedModel):
    """A base model into which PEFT has put layers. Only the parameters of these layers train.

    Attributes:
        peft_model: PEFT's wrapper; `model` is the base model inside it.
        dropout: Probability that an input of a low-rank product is set to 0, in training.
        seed: Seed of the dropout masks.
    """

    model: PreTrainedModel = field(init=False)
    peft_model: PeftModel
    dropout: float = 0.0
    seed: int = 0
    _masks: DropoutPool | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils.other import ModulesToSaveWrapper

        from tuneoff.engine.kernels.low_rank import fuse_lora_layers

        self.model = self.peft_model.get_base_model()
        self._masks = fuse_lora_layers(self.model, self.dropout, self.seed)
        layers = (BaseTunerLayer, ModulesToSaveWrapper)
        self.modules_with_dropout = [module for module in self.model.modules() if isinstance(module, layers)]
        matched = [name.rsplit(".", 1)[-1] for name in self.peft_model.base_model.targeted_module_names]
        self.details["target_modules"] = {name: matched.count(name) for name in sorted(set(matched))}

    def train_mode(self, on: bool) -> None:
        super().train_mode(on)
        if on and self._masks is not None:
            self._masks.next_step()

    def merge(self) -> None:
        if adapts_shared_weight(self.model):
            self.details["merged"] = False  # a merge would change the embeddings and the head
            return
        try:
            self.model = self.peft_model.merge_and_unload()
        except (AttributeError, NotImplementedError, ValueError, TypeError):
            self.details["merged"] = False  # PEFT cannot merge this type: generation runs its layers

    def save(self, folder: Path) -> ArtefactFormat:
        self.peft_model.save_pretrained(folder, save_embedding_layers=False)
        return "peft"


def add_peft_layers(base: BaseModel, config: PeftConfig, revision: str | None = None) -> PeftModel:
    """Put PEFT's layers into the base model. They compute in its dtype: the optimizer keeps its weights in fp32."""
    from peft import get_peft_model

    return get_peft_model(base.model, config, autocast_adapter_dtype=False, revision=revision)


def load_peft_layers(base: BaseModel, folder: Path) -> PeftLayers:
    """The base model with the trained layers that `PeftLayers.save` wrote."""
    from tuneoff.model_weights import load_adapter

    return PeftLayers(load_adapter(base.model, folder))


def has_conv1d(model: nn.Module) -> bool:
    """Whether the model stores its weights transposed, as GPT-2 does. PEFT needs to know."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())
