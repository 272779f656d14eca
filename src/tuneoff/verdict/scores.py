"""Input of the verdict: a score for every method, seed and document, and the costs of each method."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from tuneoff.stats.variance_components import Booleans, Floats, Integers
from tuneoff.verdict.sentences import listed


@dataclass(frozen=True)
class Axis:
    """One kind of cost. Less is better on every axis. `name` is the key in a summary."""

    name: str
    title: str
    unit: str


AXES: tuple[Axis, ...] = (
    Axis("train_seconds", "training time", "s"),
    Axis("peak_memory_bytes", "peak memory", "bytes"),
    Axis("artefact_bytes", "stored bytes", "bytes"),
    Axis("generate_seconds", "inference time", "s"),
    Axis("energy_joules", "energy", "J"),
    Axis("labelled_examples", "labelled examples", "examples"),
)


@dataclass(frozen=True)
class Cost:
    """Mean cost over seeds in the unit of its axis, or None and the reason why it is unknown."""

    value: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Scores:
    """Scores of the methods that are compared: one base model, one test split, one metric in which more is better.

    `scores` maps (method, seed) to document id to score, in points. None is a missing score.
    """

    methods: tuple[str, ...]
    scores: Mapping[tuple[str, int], Mapping[str, float | None]]
    groups: Mapping[str, str] = field(default_factory=dict)  # document id -> group; a missing id is its own group
    costs: Mapping[str, Mapping[str, Cost]] = field(default_factory=dict)  # method -> name of an axis -> cost
    deterministic: frozenset[str] = frozenset()  # methods whose texts do not depend on the seed: one run is enough
    titles: Mapping[str, str] = field(default_factory=dict)
    block: str | None = None  # the base model, if the study has several
    metric: str = "rouge1"
    notes: tuple[str, ...] = ()  # sentences about what was excluded before

    def title(self, method: str) -> str:
        """Display name of a method."""
        return self.titles.get(method, method.replace("_", " "))


@dataclass(frozen=True)
class ScoreTable:
    """A complete table of scores: every method with the same seeds and the same documents.

    M methods, S seeds, N documents.
    """

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    documents: tuple[str, ...]
    values: Floats  # (M, S, N), points
    varies: Booleans  # (M,) False for a method whose texts do not depend on the seed
    group_of: Integers  # (N,) group index, from 0
    notes: tuple[str, ...]  # sentences about excluded seeds and documents
    left_out: tuple[str, ...] = ()  # titles of methods without a finished, scored run


def group_indices(documents: Iterable[str], groups: Mapping[str, str]) -> Integers:
    """(N,) index of each document's group, in the sorted order of group names. A missing id is its own group."""
    names = [groups.get(document, document) for document in documents]
    index = {name: position for position, name in enumerate(sorted(set(names)))}
    return np.array([index[name] for name in names], dtype=np.intp)


def tabulate(scores: Scores) -> ScoreTable:
    """The complete table in `scores`: the methods with a run, the seeds of all varying methods, the documents that
    every run scored.

    A method whose runs have equal scores throughout counts as not varying. Raises `ValueError` for a duplicate method.
    """
    if len(set(scores.methods)) != len(scores.methods):
        raise ValueError("duplicate method")
    notes = list(scores.notes)
    runs = {
        method: {seed: row for (name, seed), row in scores.scores.items() if name == method and has_scores(row)}
        for method in scores.methods
    }
    left_out = tuple(scores.title(method) for method in scores.methods if not runs[method])
    methods = tuple(method for method in scores.methods if runs[method])
    fixed = {method for method in methods if method in scores.deterministic or _all_equal(list(runs[method].values()))}
    varying = [method for method in methods if method not in fixed]
    seeds = _common_seeds({scores.title(method): runs[method] for method in varying}, notes)
    if varying and not seeds:
        notes.append("The trained methods have no seed in common, so they cannot be compared.")
        methods, varying = tuple(method for method in methods if method in fixed), []
    seeds = seeds or (0,)
    rows = [
        [runs[method][seed] if method in varying else runs[method][min(runs[method])] for seed in seeds]
        for method in methods
    ]
    documents = _common_documents([row for several in rows for row in several], notes)
    # The prefix keeps a document id from matching a group name.
    labels = [scores.groups.get(document, f"\0{document}") for document in documents]
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    values = np.array([[[row[document] for document in documents] for row in several] for several in rows], dtype=float)
    return ScoreTable(
        methods,
        seeds,
        documents,
        values.reshape(len(methods), len(seeds), len(documents)),
        np.array([method in varying for method in methods], dtype=bool),
        np.array([numbers[label] for label in labels], dtype=np.intp),
        tuple(notes),
        left_out,
    )


def has_scores(row: Mapping[str, float | None]) -> bool:
    """Whether a run has at least one score."""
    return any(_is_number(value) for value in row.values())


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _all_equal(rows: list[Mapping[str, float | None]]) -> bool:
    return len(rows) > 1 and all(dict(row) == dict(rows[0]) for row in rows[1:])


def _common_seeds(runs: Mapping[str, Mapping[int, object]], notes: list[str]) -> tuple[int, ...]:
    """Seeds that every method has. `runs`: title of a method -> seed -> its scores."""
    if not runs:
        return ()
    common = set.intersection(*(set(found) for found in runs.values()))
    lost = set.union(*(set(found) for found in runs.values())) - common
    if lost and common:
        without = listed([title for title, found in runs.items() if not lost <= found.keys()])
        names = listed([str(seed) for seed in sorted(lost)])
        seeds, are, them = ("Seed", "is", "it") if len(lost) == 1 else ("Seeds", "are", "all of them")
        notes.append(f"{seeds} {names} {are} excluded for all methods: {without} did not finish with {them}.")
    return tuple(sorted(common))


def _common_documents(rows: list[Mapping[str, float | None]], notes: list[str]) -> tuple[str, ...]:
    """Documents that every run scored, sorted, so that the order of the input does not change a number."""
    if not rows:
        return ()
    scored = [{document for document, value in row.items() if _is_number(value)} for row in rows]
    common = set.intersection(*scored)
    named = set().union(*(set(row) for row in rows))
    lost = len(named) - len(common)
    if lost:
        notes.append(f"{lost} of {len(named)} test documents are excluded: not every run has a score for them.")
    return tuple(sorted(common))
