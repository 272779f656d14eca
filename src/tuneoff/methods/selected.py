"""Tuning of a few parameters where they stand: the norms (LN tuning), or the biases (BitFit).

Zhao et al. 2023, arXiv:2312.11420; Ben Zaken et al. 2021, arXiv:2106.10199.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from tuneoff.errors import UserError
from tuneoff.methods.full import FullyTuned
from tuneoff.spec.run import Scalar

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tuneoff.data import Example
    from tuneoff.models import BaseModel

TENSORS = "trained.safetensors"


@dataclass
class Selected(FullyTuned):
    """A model some of whose own parameters train; only these are stored."""

    def state(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.model.named_parameters() if tensor.requires_grad}

    def train_mode(self, on: bool) -> None:  # noqa: ARG002
        # The frozen rest stays in evaluation mode: its dropout would only be noise on the gradient.
        self.model.eval()

    def save(self, folder: Path) -> Literal["tensors"]:
        from safetensors.torch import save_file

        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in self.state().items()}, folder / TENSORS)
        return "tensors"


def _restore(base: BaseModel, folder: Path) -> Selected:
    from safetensors.torch import load_file

    path = folder / TENSORS
    found = load_file(path)
    _, unexpected = base.model.load_state_dict(found, strict=False)
    if unexpected:
        raise UserError(f"{path}: {unexpected[0]} is no parameter of this model; name the base that it was tuned from")
    return Selected(base.model, base.tokenizer)


def _select(base: BaseModel, seed: int, names: Sequence[str]) -> Selected:
    from tuneoff.engine.seeding import seed_everything

    seed_everything(seed)
    chosen = set(names)
    for name, parameter in base.model.named_parameters():
        parameter.requires_grad_(name in chosen)
    return Selected(base.model, base.tokenizer, {"tuned_tensors": len(chosen)})


@dataclass(frozen=True)
class LnTuning:
    """The weights and biases of all norms train."""

    name: ClassVar[str] = "ln_tuning"
    title: ClassVar[str] = "LN tuning"
    trains: ClassVar[bool] = True
    seeded: ClassVar[bool] = True
    search: ClassVar[Mapping[str, tuple[float, float]]] = {"learning_rate": (3e-4, 3e-2)}
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {}
    source: ClassVar[str] = "Zhao et al. 2023, arXiv:2312.11420; rate: PEFT's method_comparison"

    learning_rate: float = 3e-3
    weight_decay: float = 0.0

    @property
    def overhead_tokens(self) -> int:
        return 0

    def adapt(self, base: BaseModel, train: Sequence[Example], seed: int) -> Selected:  # noqa: ARG002
        names = [
            f"{module}.{parameter}"
            for module, norm in base.model.named_modules()
            if _is_norm(norm)
            for parameter, _ in norm.named_parameters(recurse=False)
        ]
        if not names:
            raise UserError(f"ln_tuning: {type(base.model).__name__} has no norm with weights; use lora")
        return _select(base, seed, names)

    def restore(self, base: BaseModel, folder: Path) -> Selected:
        return _restore(base, folder)


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower()


@dataclass(frozen=True)
class BitFit:
    """The biases train. Models without biases (Llama, Gemma) cannot be tuned in this way."""

    name: ClassVar[str] = "bitfit"
    title: ClassVar[str] = "BitFit"
    trains: ClassVar[bool] = True
    seeded: ClassVar[bool] = True
    search: ClassVar[Mapping[str, tuple[float, float]]] = {"learning_rate": (1e-4, 1e-2)}
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {}
    source: ClassVar[str] = "Ben Zaken et al. 2021, arXiv:2106.10199"

    learning_rate: float = 1e-3
    weight_decay: float = 0.0

    @property
    def overhead_tokens(self) -> int:
        return 0

    def adapt(self, base: BaseModel, train: Sequence[Example], seed: int) -> Selected:  # noqa: ARG002
        names = [name for name, _ in base.model.named_parameters() if name.endswith(".bias")]
        if not names:
            raise UserError(f"bitfit: {type(base.model).__name__} has no biases to tune; use ln_tuning or ia3")
        return _select(base, seed, names)

    def restore(self, base: BaseModel, folder: Path) -> Selected:
        return _restore(base, folder)
