"""Input of the verdict: a score for every method, seed and document, and the costs of each method."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tuneoff.errors import UserError
from tuneoff.methods.rows import in_order, known_method, row_title
from tuneoff.metrics.registry import METRICS
from tuneoff.results.cost_axes import Cost
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_outputs import RunOutputs
from tuneoff.results.run_record import Record
from tuneoff.results.study_dir import StoredStudy
from tuneoff.results.summary import Compared
from tuneoff.stats.variance_components import Booleans, Floats, Integers
from tuneoff.text import join_words, plural
from tuneoff.verdict.confounds import find_confounds
from tuneoff.verdict.costs import (
    ModelMethod,
    as_alone,
    concurrent_runs,
    costs_of,
    finished_timing_runs,
    is_timed_once,
    lacks_timing,
    model_and_method,
)
from tuneoff.verdict.grouping import grouped
from tuneoff.verdict.nouns import NOUNS, Nouns
from tuneoff.verdict.outputs import identical_methods, says_nothing
from tuneoff.verdict.study_size import StudySize, study_size


@dataclass(frozen=True)
class Scores:
    """Scores of the methods that are compared: one base model, one test split, one metric.

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
    size: StudySize | None = None
    identical: tuple[tuple[str, ...], ...] = ()  # groups of methods that wrote the same texts
    says_nothing: str | None = None  # why the outputs measure nothing
    compared: Compared = "methods"
    higher_is_better: bool = True
    decimals: int = 1  # of scores and differences in sentences, at least
    scale: float | None = None  # the largest possible difference; None: that of the metric, if it has one

    @property
    def largest_difference(self) -> float:
        """The largest possible difference; infinite if there is no limit."""
        known = METRICS[self.metric].scale if self.scale is None and self.metric in METRICS else self.scale
        return math.inf if known is None else known

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

    @property
    def n_groups(self) -> int:
        """Number of document groups."""
        return int(self.group_of.max()) + 1 if len(self.documents) else 0


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
    nouns = NOUNS[scores.compared]
    fixed = {method for method in methods if method in scores.deterministic or _all_equal(list(runs[method].values()))}
    varying = [method for method in methods if method not in fixed]
    seeds = _common_seeds({scores.title(method): runs[method] for method in varying}, nouns, notes)
    if varying and not seeds:
        which = "trained methods" if scores.compared == "methods" else "systems"
        notes.append(f"The {which} have no seed in common, so they cannot be compared.")
        methods, varying = tuple(method for method in methods if method in fixed), []
    seeds = seeds or (0,)
    rows = [
        [runs[method][seed] if method in varying else runs[method][min(runs[method])] for seed in seeds]
        for method in methods
    ]
    titled = [(scores.title(method), several) for method, several in zip(methods, rows, strict=True)]
    documents = _common_documents(titled, nouns, notes)
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


def training_means(table: ScoreTable, others: Iterable[ScoreTable]) -> list[Floats]:
    """Mean score of each training (M, S) for the methods of `table`, one array for `table` and each of the `others`.

    `others` are other fractions of the data. One without every varying method, or with a single seed, is left out.
    """
    varying = [name for name, varies in zip(table.methods, table.varies, strict=True) if varies]
    found = []
    for one in (table, *others):
        if len(one.seeds) > 1 and set(varying) <= set(one.methods) and len(one.documents):
            by_seed = dict(zip(one.methods, one.values.mean(axis=2), strict=True))
            none = np.zeros(len(one.seeds))
            found.append(np.stack([by_seed[name] if name in varying else none for name in table.methods]))
    return found


def has_scores(row: Mapping[str, float | None]) -> bool:
    """Whether a run has at least one score."""
    return any(_is_number(value) for value in row.values())


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _all_equal(rows: list[Mapping[str, float | None]]) -> bool:
    return len(rows) > 1 and all(dict(row) == dict(rows[0]) for row in rows[1:])


def _common_seeds(runs: Mapping[str, Mapping[int, object]], nouns: Nouns, notes: list[str]) -> tuple[int, ...]:
    """Seeds that every method has. `runs`: title of a method -> seed -> its scores."""
    if not runs:
        return ()
    common = set.intersection(*(set(found) for found in runs.values()))
    lost = set.union(*(set(found) for found in runs.values())) - common
    if lost and common:
        without = join_words([title for title, found in runs.items() if not lost <= found.keys()])
        names = join_words([str(seed) for seed in sorted(lost)])
        seeds, are, them = ("Seed", "is", "it") if len(lost) == 1 else ("Seeds", "are", "all of them")
        notes.append(f"{seeds} {names} {are} excluded for all {nouns.system}s: {without} {nouns.lacks_seed} {them}.")
    return tuple(sorted(common))


def _common_documents(
    runs: Sequence[tuple[str, Sequence[Mapping[str, float | None]]]], nouns: Nouns, notes: list[str]
) -> tuple[str, ...]:
    """Documents that every run scored, sorted, so that the order of the input does not change a number.

    `runs`: title of each method, and the scores of each of its runs.
    """
    if not runs:
        return ()
    scored = [
        set.intersection(*({document for document, value in row.items() if _is_number(value)} for row in rows))
        for _, rows in runs
    ]
    common = set.intersection(*scored)
    named = set().union(*(row for _, rows in runs for row in rows))
    lost = len(named) - len(common)
    if lost:
        missing = [(title, len(named) - len(found)) for (title, _), found in zip(runs, scored, strict=True)]
        without = ", ".join(f"{title} {count:,}" for title, count in missing if count)
        notes.append(
            f"{lost:,} of {len(named):,} {nouns.item}s are excluded: not every run has a score for them. Without a "
            f"score: {without}."
        )
    return tuple(sorted(common))


def load_scores(study: StoredStudy, metric: str = "rouge1", *, fraction: float = 1.0) -> list[Scores]:
    """The scores of a study by `metric`, one `Scores` for each base model in the order of their names.

    Only final runs on the `fraction` of the training data take part. A method whose results depend on neither seed nor
    fraction takes part with its run on all the data. A planned method without such a run takes part without scores, so
    that the verdict on an unfinished study names it. Runs that did not finish are excluded and named in `notes`, as are
    confounds. Outside systems take part as methods without seeds and costs; sentence baselines do not take part.

    Raises `UserError` if there is no such run, a file is damaged, or a method ran twice with one seed.
    """
    timing = finished_timing_runs(study.records)
    finals = [run for run in study.runs if run.record.spec.role == "final"]
    runs = _at_fraction(fraction, finals)
    if not runs:
        raise UserError(f"{study.path}: contains no run to judge; name the folder that `tuneoff compare` wrote")
    # Models of all fractions: a model keeps its name at a fraction where the runs of others are still missing.
    models = sorted({run.record.spec.model.name for run in finals})
    outside = {name: RunOutputs.of(rows) for name, rows in study.outside.items()}
    of_model = grouped(runs, lambda run: run.record.spec.model.name)
    return [
        _model_scores(study, of_model[model], metric, outside, timing, model if len(models) > 1 else None)
        for model in models
        if model in of_model
    ]


def _at_fraction(fraction: float, finals: Sequence[StoredRun]) -> list[StoredRun]:
    found = [run for run in finals if run.record.spec.fraction == fraction]
    present = {model_and_method(run.record) for run in found}
    substitutes = [
        run
        for run in finals
        if run.record.spec.fraction == 1
        and model_and_method(run.record) not in present
        and (kind := known_method(run.record.spec.method.name)) is not None
        and not kind.seeded
    ]
    return [*found, *substitutes]


def _model_scores(
    study: StoredStudy,
    runs: Sequence[StoredRun],
    metric: str,
    outside: Mapping[str, RunOutputs],
    timing: Mapping[ModelMethod, Record],
    block: str | None,
) -> Scores:
    planned = study.spec.methods if study.spec else ()
    scores: dict[tuple[str, int], Mapping[str, float | None]] = {}
    kept: dict[str, list[Record]] = {method: [] for method in planned}
    notes: list[str] = []
    outputs: dict[tuple[str, int], RunOutputs] = {}
    folds = study.spec.data.folds if study.spec else None
    parts: dict[tuple[str, int], dict[int | None, StoredRun]] = {}
    for run in runs:
        record = run.record
        method, seed, fold = record.spec.method.name, record.spec.seed, record.spec.data.fold
        kept.setdefault(method, [])
        if record.status != "finished":
            notes.append(f"Run {record.name} is excluded: {record.status}.")
            continue
        if fold in (found := parts.setdefault((method, seed), {})):
            raise UserError(
                f"{run.dir.path}: {method} ran twice with seed {seed}; move one of the two run folders away"
            )
        found[fold] = run
        kept[method].append(record)
    for key, by_fold in parts.items():
        if (missing := (folds or 1) - len(by_fold)) > 0:
            lacks = f"{plural(missing, 'fold')} of {folds} {'is' if missing == 1 else 'are'} missing"
            notes.append(f"Seed {key[1]} of {row_title(key[0])} is excluded: {lacks}.")
            continue
        for run in by_fold.values():
            _checked(run.outputs, metric, study, run.dir.path)
        outputs[key] = RunOutputs.joined(
            [by_fold[fold].outputs for fold in sorted(by_fold, key=lambda fold: fold or 0)]
        )
        scores[key] = outputs[key].scores(metric)
    for name, rows in outside.items():
        scores[name, 0] = _checked(rows, metric, study, study.path / "outside" / f"{name}.jsonl")
        outputs[name, 0] = rows
    if folds is not None:
        notes.append(_CROSS_VALIDATION.format(folds=folds, others=folds - 1))
    methods = sorted(kept, key=in_order)
    fixed = {name for name in kept if _is_deterministic(name, runs, folds or 1)}
    return Scores(
        methods=(*methods, *(name for name in outside if name not in kept)),
        scores=scores,
        groups=study.groups,
        costs={
            name: costs_of([as_alone(record, timing.get(model_and_method(record))) for record in records])
            for name, records in kept.items()
            if records
        },
        deterministic=frozenset(fixed | set(outside)),
        titles={name: row_title(name) for name in methods} | {name: name for name in outside},
        block=block,
        metric=metric,
        notes=(
            *notes,
            *(confound.sentence for confound in find_confounds(run.record for run in runs)),
            *_concurrent(kept, timing),
            *_timed_once(kept, timing),
            *_unfinished(study, kept),
            *([] if study.groups else [_NO_GROUPS]),
        ),
        size=study_size(study, (run.record for run in runs)),
        identical=identical_methods({key: found.fingerprint() for key, found in outputs.items()}),
        says_nothing=says_nothing(list(outputs.values())),
    )


def _checked(found: RunOutputs, metric: str, study: StoredStudy, source: Path) -> dict[str, float | None]:
    """The scores by document id. Raises `UserError` for scores that cannot be of this metric and this study."""
    scores = found.scores(metric)
    if study.groups and (other := next((key for key in scores if key not in study.groups), None)) is not None:
        raise UserError(
            f"{source}: has a score for the document {other[:60]!r}, which documents.jsonl does not contain; restore "
            "that file"
        )
    scale = METRICS[metric].scale if metric in METRICS else None
    known = found.known(metric)
    if scale is not None and known and (min(known) < -_ROUNDING or max(known) > scale + _ROUNDING):
        raise UserError(
            f"{source}: its {METRICS[metric].title} is {min(known):,.6g} to {max(known):,.6g}, and that is from 0 to "
            f"{scale:g}; restore the file or repeat the run"
        )
    return scores


_ROUNDING = 1e-6  # of scores
_CROSS_VALIDATION = (
    "Cross-validation: each document was tested once, by trainings on the other {others} of {folds} parts. These "
    "trainings share most of their documents, so the intervals hold for methods trained on these documents, not on "
    "others."
)
_NO_GROUPS = (
    "The study folder contains no documents, so each test example counts as a document of its own. "
    "Where several examples share a document, the intervals are too narrow."
)


def _is_deterministic(method: str, runs: Iterable[StoredRun], folds: int) -> bool:
    """Whether the seed changes nothing and the method ran once, or once in each of `folds`: a study repeats whatever
    depends on the seed."""
    known = known_method(method)
    count = sum(run.record.spec.method.name == method for run in runs)
    return known is not None and not known.seeded and count <= folds


def _unfinished(study: StoredStudy, kept: Mapping[str, Sequence[Record]]) -> Iterable[str]:
    """Methods with some of their planned runs. Methods without any run are reported as not judged.

    Of a study that stops when it is settled, the sentences on its looks say which runs are to come.
    """
    if study.spec is None or study.spec.until_settled:
        return
    parts = []
    for name, found in kept.items():
        known = known_method(name)
        wanted = (study.spec.seeds if known is None or known.seeded else 1) * (study.spec.data.folds or 1)
        if name in study.spec.methods and 0 < len(found) < wanted:
            parts.append(f"{row_title(name)} {len(found)} of {wanted}")
    if parts:
        yield f"Planned runs are missing. Finished so far: {join_words(parts)}."


def _concurrent(kept: Mapping[str, Sequence[Record]], timing: Mapping[ModelMethod, Record]) -> Iterable[str]:
    """Methods whose time and energy were measured beside concurrent runs, and which have no timing run."""
    shared = {
        row_title(name): concurrent_runs(record)
        for name, records in kept.items()
        for record in records
        if lacks_timing(record, timing)
    }
    if shared:
        yield (
            f"Time and energy of {join_words(list(shared))} were measured with up to {max(shared.values())} concurrent "
            "runs; they are not the costs of a run alone."
        )


def _timed_once(kept: Mapping[str, Sequence[Record]], timing: Mapping[ModelMethod, Record]) -> Iterable[str]:
    """Whether times and energy of some methods rest on one measurement each."""
    once = any(is_timed_once(record, timing, "generate_seconds") for records in kept.values() for record in records)
    if once:
        yield (
            "Times and energy are computed from one timing run for each method, which all its seeds share: how "
            "much another timing would differ is unknown, so small differences in these costs may be chance."
        )
