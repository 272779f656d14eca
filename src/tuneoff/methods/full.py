"""Full fine-tuning: every parameter trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.methods.base import AdaptedModel, Method
from tuneoff.methods.hyperparameters import bounded

if TYPE_CHECKING:
    from tuneoff.data import Example
    from tuneoff.models import BaseModel


@dataclass(frozen=True)
class FullFineTuning(Method):
    """Traditional fine-tuning of the whole model."""

    name = "full"
    title = "Full fine-tuning"
    source = "Howard and Ruder 2018, arXiv:1801.06146; rate: own trials at 135M parameters"
    citation = """@inproceedings{howard2018universal,
  author = {Howard, Jeremy and Ruder, Sebastian},
  title = {Universal Language Model Fine-tuning for Text Classification},
  booktitle = {Proceedings of the 56th Annual Meeting of the Association for Computational Linguistics},
  year = {2018}
}"""
    search = {"learning_rate": (1e-5, 1e-3)}

    learning_rate: float = bounded(1e-4, above=0, at_most=100)
    weight_decay: float = bounded(0.0, at_least=0, at_most=100)

    def apply(self, base: BaseModel, train: Sequence[Example], seed: int) -> AdaptedModel:
        base.model.requires_grad_(True)
        return AdaptedModel(base.model, modules_with_dropout=[base.model], tokenizer=base.tokenizer)

    def restore(self, base: BaseModel, folder: Path) -> AdaptedModel:
        replace_model(base, folder)
        return AdaptedModel(base.model, tokenizer=base.tokenizer)


def replace_model(base: BaseModel, folder: Path) -> None:
    """Replace the base's model with the tuned one in `folder`. Only one of them is in memory at a time."""
    from tuneoff.model_folder import inspect_folder
    from tuneoff.model_weights import read_weights

    inspect_folder(folder)
    model_class = type(base.model)
    base.model.to("meta")
    base.model = read_weights(folder, base.dtype, model_class=model_class)
    base.model.to(base.device)
    base.model.eval()
