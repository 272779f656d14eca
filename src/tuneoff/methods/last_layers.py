"""Tuning of the last blocks and the final norm: what several courses call traditional fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tuneoff.errors import UserError
from tuneoff.methods.full import FullyTuned, replace_model
from tuneoff.spec.run import Scalar

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from tuneoff.data import Example
    from tuneoff.models import BaseModel


@dataclass
class PartlyTuned(FullyTuned):
    """A model whose last blocks train; autograd stops below them by itself, for nothing there wants a gradient."""

    tuned: Sequence[nn.Module] = field(default_factory=list)

    def state(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.model.named_parameters() if tensor.requires_grad}

    def train_mode(self, on: bool) -> None:
        self.model.eval()  # dropout of blocks that do not learn is only noise on the gradient
        for module in self.tuned:
            module.train(on)


@dataclass(frozen=True)
class LastLayers:
    """The top `num_layers` blocks and the norm behind them."""

    name: ClassVar[str] = "last_layers"
    title: ClassVar[str] = "Last layers"
    trains: ClassVar[bool] = True
    seeded: ClassVar[bool] = True
    search: ClassVar[Mapping[str, tuple[float, float]]] = {"learning_rate": (1e-5, 1e-3)}
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {}
    source: ClassVar[str] = "Yosinski et al. 2014, arXiv:1411.1792; rates as for full tuning"

    num_layers: int = 2
    learning_rate: float = 1e-4
    weight_decay: float = 0.0

    @property
    def overhead_tokens(self) -> int:
        return 0

    def adapt(self, base: BaseModel, train: Sequence[Example], seed: int) -> PartlyTuned:  # noqa: ARG002
        from tuneoff.engine.seeding import seed_everything

        seed_everything(seed)
        blocks, norms = _blocks_and_norms(base.model)
        if self.num_layers > len(blocks):
            raise UserError(
                f"last_layers.num_layers = {self.num_layers}: this model has {len(blocks)} blocks; "
                "choose at most as many"
            )
        tuned = [*blocks[-self.num_layers :], *norms]
        for module in tuned:
            module.requires_grad_(True)
        details = {"blocks": len(blocks), "tuned_blocks": self.num_layers}
        return PartlyTuned(base.model, base.tokenizer, details, tuned=tuned)

    def restore(self, base: BaseModel, folder: Path) -> PartlyTuned:
        replace_model(base, folder)
        return PartlyTuned(base.model, base.tokenizer)


def _blocks_and_norms(model: PreTrainedModel) -> tuple[list[nn.Module], list[nn.Module]]:
    """The decoder's blocks in order (its longest list of modules), and the norms beside them but of the embeddings."""
    from torch import nn

    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise UserError(f"last_layers: {type(model).__name__} has no list of blocks to choose from; use full or lora")
    longest = max(lists, key=len)
    owner = next(module for module in model.modules() if any(child is longest for child in module.children()))
    # Not by their order: BLOOM has a norm of the embeddings, OPT names its final norm before the blocks.
    norms = [
        child
        for name, child in owner.named_children()
        if "norm" in type(child).__name__.lower() and "embed" not in name
    ]
    return list(longest), norms
