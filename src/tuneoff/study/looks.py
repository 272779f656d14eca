"""Which seeds each method gets in a study that stops when it is settled.

Between two looks nothing depends on scores. When all runs that a look needs have ended, it is taken
(`tuneoff.verdict.looks`), and the seeds of the next look are planned for the methods that go on. The looks follow from
the runs alone, so every process that works in a folder, now or after a kill, plans the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tuneoff.data import Dataset
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.study_dir import StoredStudy, StudyDir
from tuneoff.results.study_state import DataFile, PlanFile
from tuneoff.spec import StudySpec
from tuneoff.study import planner
from tuneoff.study.planner import ContentHashes, KnownRuns, PlannedRun, SeedPlan, StudyPlan
from tuneoff.verdict.look_sentences import decided_at
from tuneoff.verdict.looks import TakenLook, next_look, takes_part
from tuneoff.verdict.scores import Scores, load_scores

Cell = tuple[str, str]  # model, method
_Used = frozenset[tuple[str, str, str | None]]  # id, status and time of the end of the runs that looks were at


@dataclass(frozen=True)
class _Known:
    used: _Used
    taken: tuple[TakenLook, ...]


class StudyPlanner:
    """Plans one study, of any kind, from its stored runs; remembers the looks that it has taken.

    `study` is replaced when a time limit changes its numbers.
    """

    def __init__(self, study: StudySpec, directory: StudyDir, hashes: ContentHashes, dataset: Dataset) -> None:
        self.study = study
        self._planned: tuple[StudySpec, KnownRuns] = study, {}
        self._dir, self._hashes = directory, hashes
        self._groups = {example.id: example.group for example in dataset.test}
        self._known: dict[str, _Known] = {}
        self._titles: dict[str, str] = {}

    def plan(self, stored: Mapping[str, StoredRun]) -> StudyPlan:
        """The runs that are known so far. `stored`: runs by their ids."""
        study = self.study
        if self._planned[0] is not study:
            self._planned = study, {}
        known = self._planned[1]
        completed = {run_id: run.record for run_id, run in stored.items()}
        if not study.until_settled:
            return planner.plan(study, self._hashes, completed, known=known)
        taken: dict[str, tuple[TakenLook, ...]] = {model.name: () for model in study.models}
        while True:
            seeds = self._seed_plan(taken)
            plan = planner.plan(study, self._hashes, completed, seeds, known)
            before = dict(taken)
            for model in taken:
                runs = [run for run in plan.runs if run.spec.is_main and run.spec.model.name == model]
                taken[model] = self._looks(model, runs, stored, taken[model])
            if taken == before:
                return plan

    def opens_others(self, run: StoredRun) -> bool:
        """Whether the end of a run may make runs possible that were not planned before."""
        return bool(self.study.until_settled) or run.record.spec.role == "trial"

    def sentences(self, model: str, number: int) -> Iterable[str]:
        """What was decided at the looks on a model from the look `number` (from 0) on, one sentence a look."""
        where = f"{model}: " if len(self.study.models) > 1 else ""
        for look in self.taken(model)[number:]:
            result = decided_at(look.stopped, look.failed, self._titles, self.study.margin)
            end = {
                "settled": "; all is settled",
                "documents": "; the test documents are the limit, further seeds would hardly help",
                "nothing": "; no difference can be reported",
            }.get(look.end or "", "")
            yield f"{where}look after {look.seeds} seeds: {result}{end}"

    def taken(self, model: str) -> tuple[TakenLook, ...]:
        """The looks that were taken on a model."""
        known = self._known.get(model)
        return () if known is None else known.taken

    def enough(self) -> dict[Cell, int]:
        """Methods that get no further seeds, whatever the time limit, and the number that they have."""
        study, found = self.study, dict[Cell, int]()
        for model in study.models:
            taken = self.taken(model.name)
            if not taken:
                continue
            last = taken[-1]
            for name in study.methods:
                if last.end is not None or name not in last.trained_further:
                    found[model.name, name] = max(
                        (one.seeds for one in taken if name in one.table.methods), default=study.looks[0]
                    )
        return found

    def _seed_plan(self, taken: Mapping[str, tuple[TakenLook, ...]]) -> SeedPlan:
        study, seeds = self.study, dict[Cell, int]()
        open_models = 0
        for model, looks in taken.items():
            following = [number for number in study.possible_seeds if not looks or number > looks[-1].seeds]
            goes_on = bool(following) and not (looks and looks[-1].end is not None)
            open_models += goes_on
            for name in study.methods:
                own = max((one.seeds for one in looks if name in one.table.methods), default=study.looks[0])
                if goes_on and looks and name in looks[-1].trained_further:
                    own = following[0]
                seeds[model, name] = own
        return SeedPlan(seeds, ended=not open_models)

    def _looks(
        self,
        model: str,
        runs: list[PlannedRun],
        stored: Mapping[str, StoredRun],
        taken: tuple[TakenLook, ...],
    ) -> tuple[TakenLook, ...]:
        """The looks at one model, with the next one if its runs have ended. `runs`: those that are planned for it."""
        study = self.study
        if {run.spec.method.name for run in runs} != set(study.methods):  # trials are missing
            return taken
        if len(taken) == len(study.possible_seeds):  # a time limit leaves no time for more
            return taken
        own = [stored[run.run_id] for run in runs if run.run_id in stored]
        used = frozenset((run.record.run_id, run.record.status, run.record.finished_at) for run in own)
        known = self._known.get(model)
        if known is not None and known.used <= used and known.taken[: len(taken)] == taken != known.taken:
            return known.taken[: len(taken) + 1]
        methods, once, ended = takes_part(study.methods, study.predictions, [run.record for run in own])
        found = next_look(methods, once, ended, lambda: self._scores(own), study.looks, study.margin, taken)
        if found is None:
            return taken
        self._known[model] = _Known(used, (*taken, found))
        return self._known[model].taken

    def _scores(self, runs: list[StoredRun]) -> Scores:
        stored = StoredStudy(self._dir, self.study, PlanFile(), DataFile(), None, None, tuple(runs))
        [scores] = load_scores(stored, self.study.metric)
        self._titles.update({name: scores.title(name) for name in scores.methods})
        return replace(scores, groups=self._groups)
