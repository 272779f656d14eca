"""The one form of scores that all formats become: systems x items x seeds by metric, with groups of items."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tuneoff.errors import UserError
from tuneoff.scores.numbers import name_of
from tuneoff.text import join_words, plural

DEFAULT_METRIC = "score"
NO_SEED = ""
"""The seed of a system whose scores do not depend on one, in a table where others have seeds."""
MOST_SCORES = 10_000_000
"""A score needs about 100 bytes of memory."""
_INTEGER = re.compile(r"[+-]?\d{1,18}")


class ScoreRow(NamedTuple):
    """One score. `place` is for messages: the file with the line or row."""

    system: str
    item: str
    score: float | None
    """None if it is missing."""
    place: str
    metric: str = DEFAULT_METRIC
    seed: str | None = None
    """None if nothing is known of seeds; `NO_SEED`."""
    group: str | None = None
    """Items of one group are not independent; None: the item is a group of its own."""
    content: str | None = None
    """Equal for equal items; None if it is not known."""


@dataclass(frozen=True)
class ScoreData:
    """Scores of systems, by metric. At least one score is known."""

    systems: tuple[str, ...]
    """In the order in which they were read."""
    scores: Mapping[str, Mapping[tuple[str, int], Mapping[str, float | None]]]
    """Metric -> (system, seed) -> item -> score."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Item -> group; an item that is missing is a group of its own."""
    unseeded: frozenset[str] = frozenset()
    """Systems whose scores do not depend on the seed."""
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """Sentences about what was left out."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """In the order in which they were read."""
        return tuple(self.scores)


class ScoreCollector:
    """Takes rows of all files, and checks that they fit together."""

    def __init__(self, systems: Iterable[str] = ()) -> None:
        self._wanted = tuple(systems)
        self._systems: dict[str, None] = {}
        self._scores: dict[str, dict[tuple[str, str | None], dict[str, float | None]]] = {}
        self._items: dict[str, str] = {}
        self._count = 0
        self._groups: dict[str, str] = {}
        self._contents: dict[str, str] = {}
        self._other_content: dict[str, None] = {}
        self.notes: list[str] = []

    def add(self, row: ScoreRow) -> None:
        """Add a row. Raises `UserError` if it contradicts an earlier one."""
        if not (row.system + row.item + row.metric).isascii():
            row = row._replace(system=name_of(row.system), item=name_of(row.item), metric=name_of(row.metric))
        self._systems.setdefault(row.system)
        if self._wanted and row.system not in self._wanted:
            return
        self._count += 1
        if self._count > MOST_SCORES:
            raise UserError(
                f"{row.place}: more than {MOST_SCORES:,} scores; compare fewer systems at once (--systems), or give "
                "the mean of each group as one item"
            )
        items = self._scores.setdefault(row.metric, {}).setdefault((row.system, row.seed), {})
        if row.item in items:
            seed = "" if row.seed in (None, NO_SEED) else f" with seed {row.seed}"
            raise UserError(
                f"{row.place}: a second score of {row.system} for item {row.item}{seed}; if these are runs with "
                "several seeds, name the column of seeds (--seed-column) or give each run as NAME=FILE, else remove one"
            )
        items[self._items.setdefault(row.item, row.item)] = row.score  # all systems share the text of an item's name
        if row.group is not None and self._groups.setdefault(row.item, row.group) != row.group:
            raise UserError(
                f"{row.place}: item {row.item} is of group {row.group}, but was of group {self._groups[row.item]}; an "
                "item has one group"
            )
        if row.content is not None and self._contents.setdefault(row.item, row.content) != row.content:
            self._other_content.setdefault(row.item)

    def finish(self, files: Iterable[str]) -> ScoreData:
        """The table. Raises `UserError` without a score, or if the seeds of the systems do not fit together."""
        if unknown := [name for name in self._wanted if name not in self._systems]:
            listed = ", ".join(list(self._systems)[:20])
            raise UserError(f"--systems {unknown[0]}: no such system; there are {listed}")
        for row in (row for runs in self._scores.values() for row in runs.values()):
            for item in self._other_content:
                row.pop(item, None)
        if not any(
            value is not None for runs in self._scores.values() for row in runs.values() for value in row.values()
        ):
            raise UserError("no score in these files; check the columns and the files")
        numbers, unseeded = self._seed_numbers()
        notes = [name_of(note) for note in self.notes]
        if self._other_content:
            example = next(iter(self._other_content))
            notes.append(
                f"{plural(len(self._other_content), 'item')} left out: the systems have different contents under one "
                f"id (such as {example})."
            )
        return ScoreData(
            systems=tuple(name for name in self._systems if not self._wanted or name in self._wanted),
            scores={
                metric: {(system, numbers[seed]): row for (system, seed), row in runs.items()}
                for metric, runs in self._scores.items()
            },
            groups=self._groups,
            unseeded=unseeded,
            files=tuple(files),
            notes=tuple(notes),
        )

    def _seed_numbers(self) -> tuple[dict[str | None, int], frozenset[str]]:
        """The number of each seed, and the systems without seeds where others have some."""
        runs = {key for found in self._scores.values() for key in found}
        names = {seed for _, seed in runs if seed not in (None, NO_SEED)}
        if not names:
            return dict.fromkeys((None, NO_SEED), 0), frozenset()
        unknown = sorted({system for system, seed in runs if seed is None})
        if unknown:
            raise UserError(
                f"the scores of {join_words(unknown)} have no seed, but others have; give every file a column of "
                "seeds, with an empty cell for a system that does not depend on the seed"
            )
        with_seeds = {system for system, seed in runs if seed != NO_SEED}
        unseeded = frozenset(system for system, _ in runs) - with_seeds
        if mixed := sorted({system for system, seed in runs if seed == NO_SEED} & with_seeds):
            raise UserError(f"{mixed[0]} has scores with a seed and without one; give all or none of them a seed")
        numbers: dict[str | None, int]
        if all(_INTEGER.fullmatch(name or "") for name in names):
            numbers = {name: int(name or 0) for name in names}
            if len(set(numbers.values())) == len(names):
                return numbers | {NO_SEED: min(numbers.values())}, unseeded
        numbers = {name: at for at, name in enumerate(sorted(map(str, names)))}
        return numbers | {NO_SEED: 0}, unseeded
