"""Keeps a study within its time limit while it runs: what is spent, what comes next, and what is corrected."""

from collections.abc import Callable, Collection, Mapping, Sequence

from tuneoff.methods import method_class
from tuneoff.results.run_record import Record
from tuneoff.results.study_state import BudgetFile, ReducedSettings
from tuneoff.spec import StudySpec
from tuneoff.study.budget import VALIDATION, reductions, with_equal_time
from tuneoff.study.correction import SecondsLeft, corrected, done_runs, speeds_so_far, with_headroom
from tuneoff.study.duration import DataSizes, estimate
from tuneoff.study.planner import Completed, PlannedRun, StudyPlan, is_done
from tuneoff.text import join_words, plural

END_SECONDS = 5.0  # the verdict and the report
HEADROOM = 0.02  # of the limit, for documents that the first final run scores beyond the plan
# Parts of the limit: plans end a little before it, and nothing is reduced for ending a little after it.
_AIM, _TOLERANCE = 0.98, 0.05


def time_for_runs(budget_seconds: float) -> float:
    """When the last run should end, in seconds since the start of a study with this limit."""
    return max(0.0, _AIM * budget_seconds - END_SECONDS)


class BudgetKeeper:
    """One study with a time limit. `file` is its plan as `budget.json` holds it.

    `asked` is the study before anything was reduced. `began` is when this session started, by `clock`.
    """

    def __init__(
        self,
        file: BudgetFile,
        asked: StudySpec,
        sizes: DataSizes,
        *,
        began: float,
        clock: Callable[[], float],
        processes: int = 1,
    ) -> None:
        self.file = file
        self._asked, self._sizes, self._processes = asked, sizes, processes
        self._earlier, self._began, self._clock = file.spent_seconds, began, clock
        self._speeds = {(speed.model, speed.method): speed.speed() for speed in file.measured}
        if file.equal == "time":  # its steps follow from the speeds of the plan, and reduce nothing
            self._asked = with_equal_time(asked, sizes, self._speeds)

    def next_batch(self, missing: Sequence[PlannedRun]) -> Sequence[PlannedRun]:
        """What is carried out before the plan is corrected again: one run, or those of one seed that run concurrently.

        The first seed of all methods comes before the second, so that the study can end after each. What is trained
        comes first, because it shows most of the machine's speed.
        """
        trials = [run for run in missing if run.spec.role == "trial"]
        finals = sorted(
            (run for run in missing if run.spec.role != "trial"),
            key=lambda run: (-run.spec.fraction, run.spec.seed, not method_class(run.spec.method.name).trains),
        )
        if self._processes == 1:
            return [*trials, *finals][:1]
        return trials or [
            run
            for run in finals
            if (run.spec.fraction, run.spec.seed) == (finals[0].spec.fraction, finals[0].spec.seed)
        ]

    def correct(
        self,
        study: StudySpec,
        plan: StudyPlan,
        completed: Completed,
        attempted: Collection[str],
        enough: Mapping[tuple[str, str], int] | None = None,
    ) -> tuple[StudySpec, str | None]:
        """The study as it is best continued, and what was changed in words. `file` is then up to date.

        `attempted`: places of runs that are not repeated in this session, whatever came of them. `enough`: methods that
        get no further seeds, see `DoneRuns`.
        """
        over = [run for run in plan.runs if is_done(run, completed) or run.place in attempted]
        records = [completed[run.run_id] for run in over if run.run_id in completed]
        speeds = speeds_so_far(self._speeds, sorted(records, key=_ended_at))
        done = done_runs(over, enough)
        spent, limit = self.spent_seconds, self.file.budget_seconds
        assert limit is not None

        def needed(one: StudySpec) -> float:
            return estimate(one, self._sizes, speeds, self._processes, done)

        found = study
        settled = len(done.enough) == len(study.models) * len(study.methods)  # further seeds cost nothing, for no use
        waiting = [run for run in plan.missing(completed) if run.place not in attempted]
        if not settled and all(run.spec.role != "trial" for run in waiting):  # nothing depends on it before
            left = time_for_runs(limit) - spent
            limits = SecondsLeft(grow=left, keep=left + _TOLERANCE * limit)
            found = corrected(study, self._asked, self._sizes, done, needed, limits)
            if self._processes == 1 and not done.seeds:
                found = with_headroom(found, self._asked, self._sizes, speeds, HEADROOM * limit)
        changes = list(reductions(study, found, self._sizes))
        text = f"after {plural(len(over), 'run')}: {join_words(changes)}" if changes else None
        # Validation never changes, and the data are read with what is left of it.
        validation = [line for line in self.file.given_up if line.startswith(VALIDATION)]
        rest = [line for line in reductions(self._asked, found, self._sizes) if not line.startswith(VALIDATION)]
        update: dict[str, object] = {"spent_seconds": spent, "given_up": (*validation, *rest)}
        if text is not None:
            update["settings"] = ReducedSettings.of(found)
            update["corrections"] = (*self.file.corrections, text)
        self.file = self.file.model_copy(update=update)
        return found, text

    @property
    def spent_seconds(self) -> float:
        """Seconds since the start, without those between sessions."""
        return self._earlier + self._clock() - self._began


def _ended_at(record: Record) -> str:
    return record.finished_at or ""
