"""Tuning of some of the base's own parameters where they stand: what `ln_tuning` and `bitfit` share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tuneoff.errors import UserError
from tuneoff.methods.full import FullyTuned

if TYPE_CHECKING:
    from torch import Tensor

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


def restore(base: BaseModel, folder: Path) -> Selected:
    """The base with the stored parameters in place. Raises `UserError` for those of another model."""
    from safetensors.torch import load_file

    path = folder / TENSORS
    found = load_file(path)
    _, unexpected = base.model.load_state_dict(found, strict=False)
    if unexpected:
        raise UserError(f"{path}: {unexpected[0]} is no parameter of this model; name the base that it was tuned from")
    return Selected(base.model, base.tokenizer)


def select(base: BaseModel, seed: int, names: Sequence[str]) -> Selected:
    """The base with these parameters trainable and all others frozen."""
    from tuneoff.engine.seeding import seed_everything

    seed_everything(seed)
    chosen = set(names)
    for name, parameter in base.model.named_parameters():
        parameter.requires_grad_(name in chosen)
    return Selected(base.model, base.tokenizer, {"tuned_tensors": len(chosen)})
