"""Zero-shot: the instruction alone. Nothing trains, so its curve is empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from tuneoff.prompts import AS_GIVEN, Prompting
from tuneoff.spec.run import Scalar

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tuneoff.data import Example
    from tuneoff.models import BaseModel

# Other wordings of the same wish, for trials: what prompts usually vary in (brevity, form, role, faithfulness).
WORDINGS = (
    "{instruction}",
    "{instruction} Be brief.",
    "{instruction} Write one plain sentence of at most 25 words, without an introduction.",
    "You write precise summaries for experts. {instruction}",
    "{instruction} Use only what the text says.",
    "{instruction} Name the main finding first.",
    "Read the text. {instruction} Answer with the summary only.",
    "{instruction} Do not repeat the text word by word.",
)


@dataclass
class Untouched:
    """The base model as it came."""

    model: nn.Module
    prompting: Prompting = AS_GIVEN
    details: dict[str, Any] = field(default_factory=dict)

    def prefix(self) -> Tensor | None:
        return None

    def suffix(self) -> Tensor | None:
        return None

    def state(self) -> dict[str, Tensor]:
        return {}

    def train_mode(self, on: bool) -> None:
        self.model.train(on)

    def save(self, folder: Path) -> Literal["none", "prompt"]:  # noqa: ARG002 - nothing of its own to save
        return "none"

    def merge(self) -> None:
        return None


@dataclass(frozen=True)
class ZeroShot:
    """The prompt alone."""

    name: ClassVar[str] = "zero_shot"
    title: ClassVar[str] = "Zero-shot"
    trains: ClassVar[bool] = False
    seeded: ClassVar[bool] = False
    search: ClassVar[Mapping[str, tuple[float, float]]] = {}
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {"wording": WORDINGS}
    source: ClassVar[str] = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners, section 3.6"

    wording: str = "{instruction}"

    @property
    def overhead_tokens(self) -> int:
        return 0

    def adapt(self, base: BaseModel, train: Sequence[Example], seed: int) -> Untouched:  # noqa: ARG002
        return Untouched(base.model, Prompting(self.wording))

    def restore(self, base: BaseModel, folder: Path) -> Untouched:  # noqa: ARG002
        return Untouched(base.model, Prompting(self.wording))
