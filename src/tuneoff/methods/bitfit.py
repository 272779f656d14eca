"""BitFit: the biases alone train (Ben Zaken et al. 2021, arXiv:2106.10199)."""

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
    from tuneoff.data import Example
    from tuneoff.models import BaseModel


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
        return selected.select(base, seed, names)

    def restore(self, base: BaseModel, folder: Path) -> Selected:
        return selected.restore(base, folder)
