"""What comes next in a study with a time limit, and what is kept of its corrections."""

import pytest

from support.planned import HASHES, record_of, study_of
from tuneoff.results.run_record import Record
from tuneoff.results.study_state import BudgetFile, ReducedSettings, Speed
from tuneoff.spec import StudySpec
from tuneoff.study import budget, planner
from tuneoff.study.budget_keeper import END_SECONDS, BudgetKeeper, time_for_runs
from tuneoff.study.correction import scaled
from tuneoff.study.duration import DataSizes, estimate
from tuneoff.study.planner import PlannedRun

METHODS = ("zero_shot", "lora", "full")
SIZES = DataSizes(800, 40, 40, 200, 200)
ASKED = study_of(methods=METHODS, seeds=3, trials=1)
SPEED = Speed(start=2, step=1, check=0.1, write=0.5)
KNOWN = planner.ContentHashes(HASHES.data, HASHES.models, train_examples=800)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def keeper_of(study: StudySpec, clock: Clock, *, seconds: float = 3600.0, processes: int = 1) -> BudgetKeeper:
    speeds = {("starter", name): SPEED for name in METHODS}
    file = budget.budget_file(budget.FittedStudy(study, 100.0, (), True), ASKED, seconds, "examples", speeds)
    return BudgetKeeper(file, ASKED, SIZES, began=0.0, clock=clock, processes=processes)


def finals(study: StudySpec) -> tuple[PlannedRun, ...]:
    return planner.plan(study.model_copy(update={"trials": 0}), KNOWN, {}).runs


def names(runs) -> list[str]:
    return [run.name for run in runs]


def test_plans_end_a_little_before_the_limit() -> None:
    assert time_for_runs(1000.0) == 980 - END_SECONDS
    assert time_for_runs(1.0) == 0


def test_one_run_at_a_time_and_seed_by_seed() -> None:
    keeper, left, order = keeper_of(ASKED, Clock()), list(finals(ASKED)), []
    while batch := keeper.next_batch(left):
        order += names(batch)
        left = [run for run in left if run not in batch]
    assert order == ["lora-s0", "full-s0", "zero_shot-s0", "lora-s1", "full-s1", "lora-s2", "full-s2"]
    trials = planner.plan(ASKED, KNOWN, {}).runs
    assert names(keeper.next_batch([*finals(ASKED), *trials])) == ["zero_shot-trial1"]


def test_concurrent_runs_are_those_of_a_seed() -> None:
    keeper = keeper_of(ASKED, Clock(), processes=2)
    batch = keeper.next_batch(finals(ASKED))
    assert sorted(names(batch)) == ["full-s0", "lora-s0", "zero_shot-s0"]
    assert keeper.next_batch([]) == []
    trials = planner.plan(ASKED, KNOWN, {}).runs
    assert keeper.next_batch([*finals(ASKED), *trials]) == list(trials)


def test_nothing_is_corrected_while_trials_are_left() -> None:
    clock = Clock()
    study = ASKED.model_copy(update={"seeds": 1, "scored_documents": (30,)})
    keeper = keeper_of(study, clock)
    plan = planner.plan(study, KNOWN, {})
    record = record_of(plan.runs[0])
    clock.now = 20.0
    assert keeper.correct(study, plan, {record.run_id: record}, ()) == (study, None)
    assert keeper.file.spent_seconds == 20
    assert keeper.file.corrections == ()


def test_time_that_is_free_is_used_and_the_file_says_for_what() -> None:
    """With the trials done within a minute of an hour, all documents and seeds fit."""
    clock = Clock()
    study = ASKED.model_copy(update={"seeds": 1, "scored_documents": (30,)})
    keeper, completed = keeper_of(study, clock), dict[str, Record]()
    while trials := [
        run for run in planner.plan(study, KNOWN, completed).missing(completed) if run.spec.role == "trial"
    ]:
        completed |= {run.run_id: record_of(run) for run in trials}
    clock.now = 60.0
    found, text = keeper.correct(study, planner.plan(study, KNOWN, completed), completed, ())
    assert found == ASKED
    assert text == "after 6 runs: test documents 30 -> 200 and seeds 1 -> 3"
    assert keeper.file.corrections == (text,)
    assert keeper.file.settings == ReducedSettings.of(ASKED)
    assert keeper.file.given_up == ()
    assert keeper.file.seconds == 100  # of the first plan
    # A kill and the same command go on with it.
    earlier = budget.earlier_plan(BudgetFile.model_validate(keeper.file.model_dump()), ASKED, 3600.0, "examples")
    assert earlier is not None
    assert earlier.study == found
    again = BudgetKeeper(keeper.file, ASKED, SIZES, began=1000.0, clock=lambda: 1030.0)
    assert again.spent_seconds == 90


def test_a_trial_that_failed_does_not_stop_the_correction() -> None:
    clock = Clock()
    study = ASKED.model_copy(update={"seeds": 1, "scored_documents": (30,)})
    keeper, completed = keeper_of(study, clock), dict[str, Record]()
    attempted: set[str] = set()
    while trials := [
        run
        for run in planner.plan(study, KNOWN, completed).missing(completed)
        if run.spec.role == "trial" and run.place not in attempted
    ]:
        attempted |= {run.place for run in trials}
        completed |= {run.run_id: record_of(run, "finished" if completed else "failed") for run in trials[:1]}
        completed |= {run.run_id: record_of(run) for run in trials[1:]}
    clock.now = 60.0
    _, text = keeper.correct(study, planner.plan(study, KNOWN, completed), completed, attempted)
    assert text is not None
    assert "test documents 30 -> 200" in text


def test_what_was_reduced_of_validation_stays_in_the_file() -> None:
    """The data are read with what is left of it, so the sizes do not show it."""
    clock = Clock()
    study = ASKED.model_copy(update={"seeds": 1, "trials": 0, "scored_documents": (30,)})
    keeper = keeper_of(study, clock)
    line = f"{budget.VALIDATION}40 -> 16"
    keeper.file = keeper.file.model_copy(update={"given_up": (line, "test documents 200 -> 30")})
    _, text = keeper.correct(study, planner.plan(study, KNOWN, {}), {}, ())
    assert text is not None
    assert keeper.file.given_up[0] == line
    assert "test documents 200 -> 30" not in keeper.file.given_up


@pytest.mark.parametrize("steps", [{}, {"lora": 40, "full": 80}])
def test_steps_of_equal_time_are_no_reduction(steps: dict[str, int]) -> None:
    """The slow method gets fewer of them and the fast one more. What a time limit took is still named."""
    clock, asked = Clock(), ASKED.model_copy(update={"trials": 0, "seeds": 2})
    speeds = {("starter", name): scaled(SPEED, 2.0 if name == "lora" else 1.0) for name in METHODS}
    equal = budget.with_equal_time(asked, SIZES, speeds)
    assert equal.steps["lora"] < 100 < equal.steps["full"]
    study = equal.model_copy(update={"steps": steps or equal.steps})
    fitted = budget.FittedStudy(study, 100.0, tuple(budget.reductions(equal, study, SIZES)), True)
    file = budget.budget_file(fitted, asked, 3600.0, "time", speeds)
    stored = BudgetFile.model_validate_json(file.model_dump_json())
    keeper = BudgetKeeper(stored, asked, SIZES, began=0.0, clock=clock)
    found, text = keeper.correct(study, planner.plan(study, KNOWN, {}), {}, ())
    assert (found, text) == (study, None)
    assert keeper.file.given_up == fitted.reduced
    assert bool(fitted.reduced) == bool(steps)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_first_final_run_has_headroom_if_it_is_alone(processes: int) -> None:
    study = ASKED.model_copy(update={"seeds": 1, "trials": 0, "scored_documents": (30,)})
    keeper = keeper_of(study, Clock(), seconds=400.0, processes=processes)
    found, _ = keeper.correct(study, planner.plan(study, KNOWN, {}), {}, ())
    speeds, left = {("starter", name): SPEED for name in METHODS}, time_for_runs(400.0)
    assert (estimate(found, SIZES, speeds, processes) > left) == (processes == 1)
    if processes == 1:
        [documents] = found.scored_documents
        planned = found.model_copy(update={"scored_documents": (documents - 16,)})  # 8 s of 400, half a second each
        assert left - 10 < estimate(planned, SIZES, speeds) <= left


def test_a_run_that_failed_is_not_waited_for() -> None:
    """It is not repeated in this session, so its time is not kept free."""
    clock = Clock()
    study = ASKED.model_copy(update={"seeds": 3, "trials": 0})
    plan = planner.plan(study, KNOWN, {})
    first = next(run for run in plan.runs if run.name == "lora-s0")
    failed = record_of(first, "failed")
    clock.now = 3000.0
    late = keeper_of(study, clock).correct(study, plan, {failed.run_id: failed}, ())[0]
    attempted = {run.place for run in plan.runs}
    assert keeper_of(study, clock).correct(study, plan, {failed.run_id: failed}, attempted) == (study, None)
    assert late != study
    # With other documents it has another id, and is still not repeated.
    fewer = study.model_copy(update={"scored_documents": (30,)})
    again = planner.plan(fewer, KNOWN, {failed.run_id: failed})
    assert {run.place for run in again.runs} == attempted
    assert not {run.run_id for run in again.runs} & {run.run_id for run in plan.runs}


def test_where_looks_have_settled_everything_nothing_is_corrected() -> None:
    """Further seeds would fit into any time, because none of them is trained."""
    study = study_of(methods=METHODS, seeds=6, until_settled=True)
    plan = planner.plan(study, KNOWN, {})
    completed = {run.run_id: record_of(run) for run in plan.runs}
    capped = study.model_copy(update={"seeds": 3})
    enough = {("starter", name): 3 for name in METHODS}
    file = budget.budget_file(
        budget.FittedStudy(capped, 1.0, (), True), study, 3600.0, "examples", dict[tuple[str, str], Speed]()
    )
    keeper = BudgetKeeper(
        file.model_copy(update={"measured": keeper_of(study, Clock()).file.measured}),
        study,
        SIZES,
        began=0.0,
        clock=Clock(),
    )
    assert keeper.correct(capped, plan, completed, (), enough) == (capped, None)
    assert keeper.correct(capped, plan, completed, ())[0].seeds == 6
