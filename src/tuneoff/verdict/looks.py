"""The looks of a study that stops when it is settled: what is compared at each look, and what follows from it.

Pure functions of scores and of which runs have ended: an interrupted study that goes on decides the same again, and
scores between two looks decide nothing. The statistics are those of `tuneoff.stats.sequential`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from tuneoff.methods.rows import known_method
from tuneoff.results.run_record import Record
from tuneoff.results.study_dir import StoredStudy
from tuneoff.results.summary import EndOfLooks
from tuneoff.stats.sequential import Look, look
from tuneoff.stats.variance_components import group_contributions
from tuneoff.verdict.decide import reports_nothing, shows_no_chance
from tuneoff.verdict.scores import Scores, ScoreTable, has_scores, tabulate

Ended = Mapping[tuple[str, int], bool]  # (method, seed) of the runs that have ended -> whether the run finished


@dataclass(frozen=True, eq=False)
class TakenLook:
    """One look at the methods that still take part."""

    seeds: int
    table: ScoreTable
    """Of the methods that were compared."""
    found: Look | None
    """None if no difference can be reported."""
    stopped: tuple[str, ...]
    """Methods shown to lose more than the margin."""
    failed: tuple[str, ...]
    """Methods that take part no longer, because a training did not finish or has no scores."""
    end: EndOfLooks | None
    """Why no look follows."""

    @property
    def going_on(self) -> tuple[str, ...]:
        """Methods that are compared at the next look."""
        return tuple(name for name in self.table.methods if name not in self.stopped)

    @property
    def trained_further(self) -> tuple[str, ...]:
        """Those of them whose results depend on the seed."""
        varying = [name for name, varies in zip(self.table.methods, self.table.varies, strict=True) if varies]
        return tuple(name for name in self.going_on if name in varying)


@dataclass(frozen=True)
class StudyLooks:
    """The looks of a study at one base model, and what they saved."""

    planned: tuple[int, ...]
    """Numbers of seeds."""
    margin: float
    taken: tuple[TakenLook, ...]
    most_seeds: int
    """What a time limit has left of the seeds."""
    runs: int
    """Final runs on all the data that finished."""
    all_runs: int
    """Those of a study in which every method gets the seeds of the last look."""
    saved_seconds: float | None
    """What the runs that were not needed would have taken, by the mean duration of each method; None if unknown."""


def next_look(
    methods: Sequence[str],
    once: Collection[str],
    ended: Ended,
    scores: Callable[[], Scores],
    looks: Sequence[int],
    margin: float,
    taken: Sequence[TakenLook],
) -> TakenLook | None:
    """The look that follows `taken`, if all runs that it needs have ended; None if not, or if no look follows.

    Args:
        methods: all methods of the study, and outside systems.
        once: those of which one run, with seed 0, is enough.
        ended: the runs that have ended.
        scores: reads the scores. Called only for a look.
        looks: numbers of seeds of all looks.
        margin: difference that does not matter in practice, points.
        taken: the looks so far.
    """
    if len(taken) == len(looks) or (taken and taken[-1].end is not None):
        return None
    seeds = looks[len(taken)]
    one_run = set(once)
    if taken:
        one_run |= set(taken[-1].going_on) - set(taken[-1].trained_further)
    compared = taken[-1].going_on if taken else tuple(methods)
    needed = {name: range(1 if name in one_run else seeds) for name in compared}
    if any((name, seed) not in ended for name, own in needed.items() for seed in own):
        return None
    finished = [name for name, own in needed.items() if all(ended[name, seed] for seed in own)]
    return take_look(scores(), finished, compared, looks, margin, taken)


def take_look(
    scores: Scores,
    finished: Sequence[str],
    planned: Sequence[str],
    looks: Sequence[int],
    margin: float,
    taken: Sequence[TakenLook],
) -> TakenLook:
    """Look at the methods `finished`, of those that were `planned` for this look."""
    seeds = looks[len(taken)]
    rows = {key: row for key, row in scores.scores.items() if key[0] in finished and key[1] < seeds}
    scored = [name for name in finished if all(has_scores(row) for (own, _), row in rows.items() if own == name)]
    rows = {key: row for key, row in rows.items() if key[0] in scored}
    methods = tuple(name for name in scores.methods if name in scored)
    table = tabulate(replace(scores, methods=methods, scores=rows, notes=()))
    failed = tuple(name for name in planned if name not in methods)
    if len(methods) < 2:
        return TakenLook(seeds, table, None, (), failed, "settled")
    if reports_nothing(scores, table):
        return TakenLook(seeds, table, None, (), failed, "nothing")
    used = [one.found.level for one in taken if one.found is not None]
    found = look(group_contributions(table.values, table.group_of), table.varies, looks, used, margin)
    if shows_no_chance(found.found.differences):
        return TakenLook(seeds, table, None, (), failed, "nothing")
    stopped = tuple(name for name, beaten in zip(methods, found.stopped, strict=True) if beaten)
    end: EndOfLooks | None = None
    if found.settled:
        end = "settled"
    elif found.documents_limit and len(taken) + 1 < len(looks):
        end = "documents"
    elif len(taken) + 1 == len(looks):
        end = "seeds"
    return TakenLook(seeds, table, found, stopped, failed, end)


def replayed(taken: Sequence[TakenLook], scores: Scores, looks: Sequence[int], margin: float) -> tuple[TakenLook, ...]:
    """The same looks at the same methods with other scores or another margin. What was stopped when stays as it was."""
    again: list[TakenLook] = []
    for one in taken:
        found = take_look(scores, one.table.methods, one.table.methods, looks, margin, again)
        again.append(replace(found, stopped=one.stopped, failed=one.failed, end=one.end))
    return tuple(again)


def looks_of(study: StoredStudy, scores: Scores) -> StudyLooks:
    """The looks of a study that stops when it is settled. `scores`: of one base model, by the study's own metric."""
    spec = study.spec
    assert spec is not None
    records = [
        record for record in study.records if record.spec.is_main and scores.block in (None, record.spec.model.name)
    ]
    taken: list[TakenLook] = []
    methods, once, ended = takes_part(spec.methods, study.outside, records)
    while found := next_look(methods, once, ended, lambda: scores, spec.looks, spec.margin, taken):
        taken.append(found)
    seeded = [name for name in spec.methods if name not in once]
    finished = {
        name: [record for record in records if record.spec.method.name == name and record.status == "finished"]
        for name in spec.methods
    }
    return StudyLooks(
        planned=spec.looks,
        margin=spec.margin,
        taken=tuple(taken),
        most_seeds=spec.seeds,
        runs=sum(map(len, finished.values())),
        all_runs=len(spec.methods) - len(seeded) + spec.looks[-1] * len(seeded),
        saved_seconds=_saved_seconds([finished[name] for name in seeded], spec.looks[-1]),
    )


def takes_part(
    methods: Sequence[str], outside: Collection[str], records: Sequence[Record]
) -> tuple[tuple[str, ...], frozenset[str], dict[tuple[str, int], bool]]:
    """What `next_look` needs: the methods and outside systems, those of one run, and the runs that have ended.

    `records`: of the final runs of one base model on all the data.
    """
    once = {name for name in methods if (kind := known_method(name)) is not None and not kind.seeded}
    ended = {
        (record.spec.method.name, record.spec.seed): record.status == "finished"
        for record in records
        if record.status in ("finished", "failed", "diverged")
    }
    ended |= {(name, 0): True for name in outside}
    return (*methods, *outside), frozenset(once | set(outside)), ended


def _saved_seconds(finished: Sequence[Sequence[Record]], seeds: int) -> float | None:
    total = 0.0
    for records in finished:
        durations = [record.resources.total_seconds for record in records if record.resources is not None]
        if not durations or len(durations) < len(records):
            return None
        total += (seeds - len(records)) * sum(durations) / len(durations)
    return total
