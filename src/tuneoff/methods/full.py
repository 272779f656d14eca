"""Full fine-tuning: every parameter moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tuneoff.prompts import AS_GIVEN, Prompting
from tuneoff.spec.run import Scalar

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tuneoff.data import Example
    from tuneoff.models import BaseModel


@dataclass
class FullyTuned:
    """A model all of whose parameters train. Masters in fp32 are the optimiser's business."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    details: dict[str, Any] = field(default_factory=dict)
    prompting: Prompting = AS_GIVEN

    def prefix(self) -> Tensor | None:
        return None

    def suffix(self) -> Tensor | None:
        return None

    def state(self) -> dict[str, Tensor]:
        return dict(self.model.named_parameters())  # tied weights appear once

    def train_mode(self, on: bool) -> None:
        self.model.train(on)

    def save(self, folder: Path) -> Literal["transformers", "tensors"]:
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        return "transformers"

    def merge(self) -> None:
        return None


@dataclass(frozen=True)
class Full:
    """Traditional fine-tuning of the whole model."""

    name: ClassVar[str] = "full"
    title: ClassVar[str] = "Full fine-tuning"
    trains: ClassVar[bool] = True
    seeded: ClassVar[bool] = True
    search: ClassVar[Mapping[str, tuple[float, float]]] = {"learning_rate": (1e-5, 1e-3)}
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {}
    source: ClassVar[str] = "Howard and Ruder 2018, arXiv:1801.06146; rate: own trials at 135M parameters"

    learning_rate: float = 1e-4
    weight_decay: float = 0.0

    @property
    def overhead_tokens(self) -> int:
        return 0

    def adapt(self, base: BaseModel, train: Sequence[Example], seed: int) -> FullyTuned:  # noqa: ARG002
        from tuneoff.engine.seeding import seed_everything

        seed_everything(seed)
        base.model.requires_grad_(True)
        return FullyTuned(base.model, base.tokenizer)

    def restore(self, base: BaseModel, folder: Path) -> FullyTuned:
        replace_model(base, folder)
        return FullyTuned(base.model, base.tokenizer)


def replace_model(base: BaseModel, folder: Path) -> None:
    """Put a tuned model in the place of the base, never both of them in memory."""
    from tuneoff.models import quiet_transformers

    kind = type(base.model)
    base.model.to("meta")
    with quiet_transformers():
        base.model = kind.from_pretrained(folder, dtype=base.dtype, use_safetensors=True)
    base.model.to(base.device)
    base.model.eval()
