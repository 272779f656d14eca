"""What a way of adapting a model is. Torch is imported for types only: names and values are checked before it loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from tuneoff.spec.run import Scalar

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tuneoff.data import Example
    from tuneoff.engine.loss import KeyValuePrefix
    from tuneoff.models import BaseModel
    from tuneoff.prompts import Prompting


@runtime_checkable
class Adapted(Protocol):
    """A model after adapting. What trains is what has `requires_grad`."""

    model: nn.Module
    details: dict[str, Any]  # for the record: matched modules, initialisation ...
    prompting: Prompting  # what the method changes about prompts

    def prefix(self) -> Tensor | KeyValuePrefix | None:
        """Embeddings (virtual tokens V, width D), or keys and values of every layer, that stand directly in front of
        the prompt; None without any."""
        ...

    def suffix(self) -> Tensor | None:
        """Embeddings (virtual tokens V, width D) that stand directly after the prompt, before the answer begins; None
        without any. No method has both."""
        ...

    def state(self) -> dict[str, Tensor]:
        """The trainable tensors by name (not copied)."""
        ...

    def train_mode(self, on: bool) -> None:
        """Switch dropout on or off."""
        ...

    def save(self, folder: Path) -> Literal["peft", "transformers", "tensors", "embeddings", "prompt", "none"]:
        """Write what a user needs to load the result without tuneoff; returns the format."""
        ...

    def merge(self) -> None:
        """Fold low-rank products into the weights, where there are any: decoding then costs what the base costs."""
        ...


class Method(Protocol):
    """A frozen dataclass whose fields are its hyper-parameters."""

    name: ClassVar[str]
    title: ClassVar[str]  # for tables and plots
    trains: ClassVar[bool]
    seeded: ClassVar[bool]  # the seed changes what it writes
    search: ClassVar[Mapping[str, tuple[float, float]]]  # hyper-parameter -> range, searched on a log scale
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]]  # hyper-parameter -> values, tried in this order
    source: ClassVar[str]  # paper or documentation behind the defaults

    @property
    def overhead_tokens(self) -> int:
        """Virtual tokens in front of the prompt or after it."""
        ...

    def adapt(self, base: BaseModel, train: Sequence[Example], seed: int) -> Adapted:
        """Make the base model trainable in this way. Seeds first, then builds anything random."""
        ...

    def restore(self, base: BaseModel, folder: Path) -> Adapted:
        """What `adapt` and training gave, read back from the folder that `Adapted.save` wrote."""
        ...
