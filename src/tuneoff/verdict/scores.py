"""What the verdict is drawn from: a score for every method, seed and document, and what each method costs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tuneoff.stats.variance_components import Booleans, Floats, Integers
from tuneoff.verdict.sentences import listed


@dataclass(frozen=True)
class Axis:
    """One kind of cost, named as in the report's table. Less is better on every axis."""

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
    """A cost in the unit of its axis, mean over seeds, or no number and why there is none."""

    value: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Scores:
    """Scores of one family of methods: one base model, one test split, one metric in which more is better.

    `scores` maps (method, seed) to document id to score, in points; None marks a score that does not exist. `groups`
    maps a document id to its group; an id that is missing there is its own group. Methods in `deterministic` write the
    same texts whatever the seed, so one run stands for all seeds. `notes` are sentences about what was left out before.
    """

    methods: tuple[str, ...]
    scores: Mapping[tuple[str, int], Mapping[str, float | None]]
    groups: Mapping[str, str] = field(default_factory=dict)
    costs: Mapping[str, Mapping[str, Cost]] = field(default_factory=dict)
    deterministic: frozenset[str] = frozenset()
    titles: Mapping[str, str] = field(default_factory=dict)
    block: str | None = None  # the base model, where a study has several
    metric: str = "rouge1"
    notes: tuple[str, ...] = ()

    def title(self, method: str) -> str:
        """A method's name for people."""
        return self.titles.get(method, method.replace("_", " "))


@dataclass(frozen=True)
class Table:
    """The scores that can be compared: every method with the same seeds and the same documents.

    `values` (M, S, N) in points; `varies` (M,); `group_of` (N,) numbers the groups from 0. `notes` tell what is left
    out of seeds and documents, `left_out` holds the titles of methods without a finished, scored run.
    """

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    documents: tuple[str, ...]
    values: Floats
    varies: Booleans
    group_of: Integers
    notes: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def tabulate(scores: Scores) -> Table:
    """The complete table in `scores`: all methods with a run, seeds that all varying ones share, documents that all
    their runs scored. What is left out is told.

    A method whose runs agree in every score does not vary with the seed and is treated so. Raises `ValueError` for a
    method that is named twice.
    """
    if len(set(scores.methods)) != len(scores.methods):
        raise ValueError("a method is named twice")
    notes = list(scores.notes)
    runs = {
        method: {seed: row for (name, seed), row in scores.scores.items() if name == method and any_number(row)}
        for method in scores.methods
    }
    left_out = tuple(scores.title(method) for method in scores.methods if not runs[method])
    methods = tuple(method for method in scores.methods if runs[method])
    fixed = {method for method in methods if method in scores.deterministic or _all_alike(list(runs[method].values()))}
    varying = [method for method in methods if method not in fixed]
    seeds = _shared_seeds({scores.title(method): runs[method] for method in varying}, notes)
    if varying and not seeds:
        notes.append("The trained methods share no seed, so there is nothing to compare them on.")
        methods, varying = tuple(method for method in methods if method in fixed), []
    seeds = seeds or (0,)
    rows = [
        [runs[method][seed] if method in varying else runs[method][min(runs[method])] for seed in seeds]
        for method in methods
    ]
    documents = _shared_documents([row for several in rows for row in several], notes)
    labels = [scores.groups.get(document, f"\0{document}") for document in documents]
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    values = np.array([[[row[document] for document in documents] for row in several] for several in rows], dtype=float)
    return Table(
        methods,
        seeds,
        documents,
        values.reshape(len(methods), len(seeds), len(documents)),
        np.array([method in varying for method in methods], dtype=bool),
        np.array([numbers[label] for label in labels], dtype=np.intp),
        tuple(notes),
        left_out,
    )


def any_number(row: Mapping[str, float | None]) -> bool:
    """Whether a run has a score at all."""
    return any(_is_number(value) for value in row.values())


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _all_alike(rows: list[Mapping[str, float | None]]) -> bool:
    return len(rows) > 1 and all(dict(row) == dict(rows[0]) for row in rows[1:])


def _shared_seeds(runs: Mapping[str, Mapping[int, object]], notes: list[str]) -> tuple[int, ...]:
    """`runs`: title of a method -> seed -> its scores."""
    if not runs:
        return ()
    shared = set.intersection(*(set(found) for found in runs.values()))
    lost = set.union(*(set(found) for found in runs.values())) - shared
    if lost and shared:
        without = listed([title for title, found in runs.items() if not lost <= found.keys()])
        names = listed([str(seed) for seed in sorted(lost)])
        seeds, are, them = ("Seed", "is", "it") if len(lost) == 1 else ("Seeds", "are", "all of them")
        notes.append(f"{seeds} {names} {are} left out for all methods: {without} did not finish with {them}.")
    return tuple(sorted(shared))


def _shared_documents(rows: list[Mapping[str, float | None]], notes: list[str]) -> tuple[str, ...]:
    if not rows:
        return ()
    scored = [{document for document, value in row.items() if _is_number(value)} for row in rows]
    shared = set.intersection(*scored)
    named = set().union(*(set(row) for row in rows))
    lost = len(named) - len(shared)
    if lost:
        notes.append(f"{lost} of {len(named)} test documents are left out: not every run has a score for them.")
    # Sorted, so that the order of the input never moves a number.
    return tuple(sorted(shared))
