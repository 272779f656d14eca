"""LN tuning: the norms alone train (Zhao et al. 2023, arXiv:2312.11420)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tuneoff.errors import UserError
from tuneoff.methods import selected
from tuneoff.methods.selected import Selected
from tuneoff.spec.run import Scalar

if TYPE_CHECKING:
    from torch import nn

    from tuneoff.data import Example
    from tuneoff.models import BaseModel


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
        return selected.select(base, seed, names)

    def restore(self, base: BaseModel, folder: Path) -> Selected:
        return selected.restore(base, folder)


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower()
