"""Zero-shot: the instruction alone. Nothing trains, so its curve is empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tuneoff.data import Example
    from tuneoff.models import BaseModel


@dataclass
class Untouched:
    """The base model as it came."""

    model: nn.Module
    details: dict[str, Any] = field(default_factory=dict)

    def prefix(self) -> Tensor | None:
        return None

    def state(self) -> dict[str, Tensor]:
        return {}

    def train_mode(self, on: bool) -> None:
        self.model.train(on)

    def save(self, folder: Path) -> Literal["none"]:  # noqa: ARG002 - nothing of its own to save
        return "none"

    def merge(self) -> None:
        return None


@dataclass(frozen=True)
class ZeroShot:
    """The prompt alone."""

    name: ClassVar[str] = "zero_shot"
    title: ClassVar[str] = "Zero-shot"
    trains: ClassVar[bool] = False
    search: ClassVar[Mapping[str, tuple[float, float]]] = {}
    source: ClassVar[str] = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners, section 3.6"

    @property
    def overhead_tokens(self) -> int:
        return 0

    def adapt(self, base: BaseModel, train: Sequence[Example], seed: int) -> Untouched:  # noqa: ARG002
        return Untouched(base.model)

    def restore(self, base: BaseModel, folder: Path) -> Untouched:  # noqa: ARG002
        return Untouched(base.model)
