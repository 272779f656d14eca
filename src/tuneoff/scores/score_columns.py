"""Which columns of a table hold systems, items, scores, seeds, groups and metrics: given, or found by usual names."""

from collections.abc import Sequence
from dataclasses import dataclass

from tuneoff.data.nested import nested_names
from tuneoff.errors import UserError
from tuneoff.text import did_you_mean

SYSTEM_NAMES = ("system", "model", "method", "model_name", "model_id", "system_id", "system_name", "agent")
ITEM_NAMES = (
    "item", "item_id", "id", "sample_id", "example_id", "question_id", "doc_id", "document_id", "instance_id",
    "prompt_id", "sample", "example", "question", "idx", "index",
)  # fmt: skip
SCORE_NAMES = ("score", "value", "correct", "is_correct", "accuracy", "result", "metric_value")
SEED_NAMES = ("seed", "run", "run_id", "repeat", "replicate", "epoch", "trial")
GROUP_NAMES = ("group", "group_id", "cluster", "cluster_id")
METRIC_NAMES = ("metric", "metric_name", "scorer", "measure")
USUAL_NAMES = {
    "system": SYSTEM_NAMES,
    "item": ITEM_NAMES,
    "score": SCORE_NAMES,
    "seed": SEED_NAMES,
    "group": GROUP_NAMES,
    "metric": METRIC_NAMES,
}


@dataclass(frozen=True)
class ScoreColumns:
    """Names of columns; None: found by usual names, or absent. `systems` are those to compare; empty: all."""

    system: str | None = None
    item: str | None = None
    score: str | None = None
    seed: str | None = None
    group: str | None = None
    metric: str | None = None
    systems: tuple[str, ...] = ()

    def given(self, part: str) -> str | None:
        """The name that was given for a part of `USUAL_NAMES`."""
        found: str | None = getattr(self, part)
        return found

    def find(self, name: str, columns: Sequence[str], first: dict[str, object]) -> "ScoreColumns":
        """The columns of one table, `name` for messages. `first` is its first row, for names inside of objects.

        Raises `UserError` for a given column that the table does not have.
        """
        by_plain = {column.strip().casefold(): column for column in reversed(columns)}
        found: dict[str, str | None] = {}
        for part, usual in USUAL_NAMES.items():
            given = self.given(part)
            if given is None:
                found[part] = next((by_plain[one] for one in usual if one in by_plain), None)
            elif given in columns or given in nested_names(first):
                found[part] = given
            elif given.casefold() in by_plain:
                found[part] = by_plain[given.casefold()]
            else:
                raise UserError(f"{name}: --{part}-column {given}: no such column{did_you_mean(given, columns)}")
        return ScoreColumns(**found, systems=self.systems)
