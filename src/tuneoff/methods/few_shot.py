"""Few-shot: training examples precede the document in the prompt (Brown et al. 2020, arXiv:2005.14165).

The run's seed draws k documents, each from another group, and their order is the order of the draw. They do not count
towards max_length: a few-shot prompt may use more of the model's context, which shows in its costs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, TypeAdapter

from tuneoff.data import Example
from tuneoff.errors import UserError
from tuneoff.export.formats import SHOTS_FILE
from tuneoff.methods.base import AdaptedModel, Method
from tuneoff.methods.hyperparameters import bounded
from tuneoff.prompts import Prompting
from tuneoff.spec.run import Frozen

if TYPE_CHECKING:
    from tuneoff.models import BaseModel


@dataclass(frozen=True)
class FewShot(Method):
    """k examples in the prompt; nothing trains."""

    name = "few_shot"
    title = "Few-shot"
    source = "Brown et al. 2020, arXiv:2005.14165"
    citation = """@inproceedings{brown2020language,
  author = {Brown, Tom B. and Mann, Benjamin and Ryder, Nick and others},
  title = {Language Models are Few-Shot Learners},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {33},
  year = {2020}
}"""
    trains = False
    choices = {"shots": (2, 1, 4, 3, 5, 6, 8)}

    shots: int = bounded(2, at_least=1, at_most=64)

    def apply(self, base: BaseModel, train: Sequence[Example], seed: int) -> AdaptedModel:
        shots = draw_shots(train, self.shots, seed)
        details = {"shots": [shot.id for shot in shots]}
        return AdaptedModel(base.model, details=details, prompting=Prompting(shots=shots))

    def restore(self, base: BaseModel, folder: Path) -> AdaptedModel:
        path = folder / SHOTS_FILE
        try:
            shots = TypeAdapter(tuple[StoredShot, ...]).validate_json(path.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: missing or damaged; run few_shot again") from error
        examples = tuple(Example(**dict(shot)) for shot in shots)
        return AdaptedModel(base.model, prompting=Prompting(shots=examples))


class StoredShot(Frozen):
    """A shot as the artefact holds it, which may come from a stranger. The fields are those of `Example`."""

    id: str
    document: str
    references: tuple[str, ...] = Field(min_length=1)
    group: str
    fields: dict[str, str] = {}


def draw_shots(train: Sequence[Example], count: int, seed: int) -> tuple[Example, ...]:
    """`count` examples, each from another group. A larger draw with the same seed begins with the smaller one.

    Raises `UserError` if there are fewer than `count` groups.
    """
    order = list(range(len(train)))
    random.Random(f"{seed}/shots").shuffle(order)
    by_group: dict[str, Example] = {}
    for index in order:
        if len(by_group) == count:
            break
        example = train[index]
        by_group.setdefault(example.group, example)
    if len(by_group) < count:
        raise UserError(
            f"few_shot.shots = {count}: the training data has {len(by_group)} documents; choose fewer shots"
        )
    return tuple(by_group.values())
