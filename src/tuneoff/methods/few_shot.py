"""Few-shot: examples of the training data in front of the document (Brown et al. 2020, arXiv:2005.14165).

Rule of the draw: k documents at random by the run's seed, each from another group, the order of the draw kept. They
stand outside max_length: a few-shot prompt may use more of the model's context, and pays for it in the cost columns.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from tuneoff.data import Example
from tuneoff.errors import UserError
from tuneoff.methods.zero_shot import Untouched
from tuneoff.prompts import Prompting
from tuneoff.spec.run import Scalar

if TYPE_CHECKING:
    from tuneoff.models import BaseModel

SHOTS_FILE = "shots.json"


@dataclass
class Shown(Untouched):
    """The base model, with the examples that its prompts begin with."""

    def save(self, folder: Path) -> Literal["prompt"]:
        shots = [asdict(shot) for shot in self.prompting.shots]
        (folder / SHOTS_FILE).write_text(json.dumps(shots, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        return "prompt"


@dataclass(frozen=True)
class FewShot:
    """k examples in the prompt; nothing trains."""

    name: ClassVar[str] = "few_shot"
    title: ClassVar[str] = "Few-shot"
    trains: ClassVar[bool] = False
    seeded: ClassVar[bool] = True
    search: ClassVar[Mapping[str, tuple[float, float]]] = {}
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {"shots": (2, 1, 4, 3, 5, 6, 8)}
    source: ClassVar[str] = "Brown et al. 2020, arXiv:2005.14165"

    shots: int = 2

    @property
    def overhead_tokens(self) -> int:
        return 0

    def adapt(self, base: BaseModel, train: Sequence[Example], seed: int) -> Shown:
        chosen = draw(train, self.shots, seed)
        return Shown(base.model, Prompting(shots=chosen), {"shots": [shot.id for shot in chosen]})

    def restore(self, base: BaseModel, folder: Path) -> Shown:
        path = folder / SHOTS_FILE
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
            shots = tuple(Example(**(row | {"references": tuple(row["references"])})) for row in rows)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path}: missing or damaged; run few_shot again") from error
        return Shown(base.model, Prompting(shots=shots))


def draw(train: Sequence[Example], count: int, seed: int) -> tuple[Example, ...]:
    """`count` examples, each of another group; larger draws of one seed begin with the smaller ones."""
    order = list(range(len(train)))
    random.Random(f"{seed}/shots").shuffle(order)
    by_group: dict[str, Example] = {}
    for place in order:
        if len(by_group) == count:
            break
        example = train[place]
        by_group.setdefault(example.group, example)
    if len(by_group) < count:
        raise UserError(
            f"few_shot.shots = {count}: the training data has {len(by_group)} documents; choose fewer shots"
        )
    return tuple(by_group.values())
