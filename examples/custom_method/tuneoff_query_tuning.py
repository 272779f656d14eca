"""Query tuning: only the query projections of the attention layers train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneoff.errors import UserError
from tuneoff.methods import AdaptedModel, Method, bounded

if TYPE_CHECKING:
    from tuneoff.data import Example
    from tuneoff.models import BaseModel


@dataclass(frozen=True)
class QueryTuning(Method):
    """The parameters of every module named `q_proj`. They are saved and restored by the base classes."""

    name = "query_tuning"
    title = "Query tuning"
    source = "an example of a method in another package"
    search = {"learning_rate": (1e-5, 1e-2)}

    learning_rate: float = bounded(1e-3, above=0, at_most=100)
    weight_decay: float = bounded(0.0, at_least=0, at_most=100)

    def apply(self, base: BaseModel, train: Sequence[Example], seed: int) -> AdaptedModel:
        for name, parameter in base.model.named_parameters():
            parameter.requires_grad_(".q_proj." in name)
        adapted = AdaptedModel(base.model)
        if not adapted.state():
            raise UserError(f"query_tuning: {type(base.model).__name__} has no module q_proj; use lora")
        return adapted
