"""The plan while the study runs: what is left is estimated from durations alone, and only some of it may change."""

from functools import partial

import pytest

from support.planned import curve_of, record_of, resources_of
from tuneoff.results.run_record import Record, RunDetails
from tuneoff.results.study_state import Speed
from tuneoff.spec import DataSpec, ModelSpec, StudySpec
from tuneoff.study import planner
from tuneoff.study.correction import (
    SecondsLeft,
    corrected,
    done_runs,
    run_seconds,
    scaled,
    speeds_so_far,
    with_headroom,
)
from tuneoff.study.duration import NOTHING_DONE, DataSizes, DoneRuns, Speeds, estimate

METHODS = ("zero_shot", "lora", "full")
SIZES = DataSizes(800, 40, 40, 200, 200)
ASKED = StudySpec(models=(ModelSpec(name="tiny"),), methods=METHODS, seeds=5, data=DataSpec(source="starter"))
SPEEDS: Speeds = {
    ("tiny", name): Speed(start=2, step=step, check=0.1, write=0.5)
    for name, step in zip(METHODS, (0, 1, 2), strict=True)
}


HASHES = planner.ContentHashes("d", {"tiny": "m"}, train_examples=800)


def planned(seeds: int = 3, documents: int | None = 60) -> StudySpec:
    scored = () if documents is None else (documents,)
    return ASKED.model_copy(update={"seeds": seeds, "scored_documents": scored})


def done(**seeds: int) -> DoneRuns:
    """The first final runs of each method."""
    return DoneRuns({}, {}, {("tiny", name, 1.0): range(count) for name, count in seeds.items()})


def correct(study: StudySpec, left: float, finished: DoneRuns = NOTHING_DONE, asked: StudySpec = ASKED) -> StudySpec:
    needed = partial(estimate, sizes=SIZES, speeds=SPEEDS, done=finished)
    return corrected(study, asked, SIZES, finished, needed, SecondsLeft(left, left))


def needed_by(study: StudySpec, finished: DoneRuns = NOTHING_DONE) -> float:
    return estimate(study, SIZES, SPEEDS, done=finished)


def test_a_plan_that_fits_is_kept() -> None:
    study = planned()
    assert correct(study, needed_by(study)) == study
    half = done(zero_shot=1, lora=2, full=1)
    assert correct(study, needed_by(study, half) + 5, half) == study


def test_before_the_first_final_run_documents_grow_and_shrink() -> None:
    study = planned()
    more, fewer = correct(study, 1.1 * needed_by(study)), correct(study, 0.95 * needed_by(study))
    assert more.scored_documents[0] > 60 > fewer.scored_documents[0] >= 30
    assert (more.seeds, fewer.seeds) == (3, 3)
    for found, part in ((more, 1.1), (fewer, 0.95)):
        assert needed_by(found) <= part * needed_by(study)
    everything = correct(study, 1e9)
    assert everything == ASKED  # and not more than was asked for


def test_afterwards_only_seeds_grow() -> None:
    study, finished = planned(), done(zero_shot=1, lora=3, full=2)
    whole = planned(seeds=5)
    found = correct(study, needed_by(whole, finished), finished)
    assert (found.seeds, found.scored_documents) == (5, (60,))
    slightly_more = correct(study, needed_by(study, finished) + 60, finished)
    assert slightly_more == study


def test_afterwards_runs_to_come_score_fewer_documents() -> None:
    """The runs that are done keep their documents: the number of those is kept too, so they are found again."""
    study, finished = planned(), done(zero_shot=1, lora=2, full=2)
    found = correct(study, needed_by(study, finished) - 20, finished)
    assert found.seeds == 3
    assert found.scored_documents[0] == 60
    assert 30 <= found.scored_documents[-1] < 60
    again = correct(found, needed_by(found, finished) - 5, finished)
    assert again.scored_documents[:2] == found.scored_documents
    from_all = correct(planned(documents=None), needed_by(planned(documents=None), finished) - 20, finished)
    assert from_all.scored_documents[0] == 200


def test_a_seed_is_left_out_before_documents_are_below_the_floor() -> None:
    study, finished = planned(documents=30), done(zero_shot=1, lora=2, full=2)
    found = correct(study, needed_by(study, finished) - 100, finished)
    assert (found.seeds, found.scored_documents) == (2, (30,))
    # Seeds that every method has are never left out, whatever the time.
    all_of_two = done(zero_shot=1, lora=2, full=2)
    assert correct(planned(documents=60), 0.0, all_of_two).seeds == 2


def test_documents_of_outside_systems_are_never_changed() -> None:
    asked = ASKED.model_copy(update={"predictions": {"api": "api.jsonl"}})
    study = asked.model_copy(update={"seeds": 3})
    assert correct(study, 1e9, asked=asked).scored_documents == ()
    fewer = correct(study, 0.5 * needed_by(study), asked=asked)
    assert fewer.scored_documents == ()
    assert fewer.seeds < 3


def test_training_and_trials_never_change() -> None:
    study = planned().model_copy(update={"trials": 1})
    asked = ASKED.model_copy(update={"trials": 4})
    for left in (1.0, 500.0, 1e9):
        found = correct(study, left, asked=asked)
        assert found.model_copy(update={"seeds": 3, "scored_documents": (60,)}) == study


def test_the_first_final_run_has_room_for_more_documents() -> None:
    def raised(study: StudySpec, seconds: float) -> StudySpec:
        return with_headroom(study, ASKED, SIZES, SPEEDS, seconds)

    assert raised(planned(), 9.0).scored_documents == (78,)  # 18 texts of half a second
    assert raised(planned(), 1e9).scored_documents == (120,)
    assert raised(planned(documents=190), 1e9).scored_documents == ()  # all that there are
    outside = planned(documents=None).model_copy(update={"predictions": {"api": "api.jsonl"}})
    assert raised(outside, 1e9) == outside
    # Without the time for them, the plan returns to what it was, and the run that is done keeps its texts.
    found = correct(planned(documents=78), needed_by(planned(), done(lora=1)), done(lora=1))
    assert found.scored_documents == (78, 60)


def test_runs_that_are_done_are_found_with_their_own_documents() -> None:
    """Also if the study has fewer documents now: no finished run is carried out again."""
    first, second = (
        planner.plan(planned().model_copy(update={"scored_documents": scored}), HASHES, {}).runs
        for scored in ((60,), (60, 40))
    )
    finished = [record_of(run) for run in first if run.spec.seed == 0]
    completed = {record.run_id: record for record in finished}
    again = planner.plan(planned().model_copy(update={"scored_documents": (60, 40)}), HASHES, completed)
    assert {run.run_id for run in again.runs} == {
        *completed,
        *(run.run_id for run in second if run.spec.seed > 0),
    }
    assert done_runs(run for run in again.runs if run.run_id in completed).seeds == {
        ("tiny", name, 1.0): {0} for name in METHODS
    }
    # A run that was carried out without any limit has all the documents.
    unlimited = record_of(planner.plan(planned(documents=None), HASHES, {}).runs[0])
    found = planner.plan(planned(), HASHES, {unlimited.run_id: unlimited}).runs[0]
    assert found.run_id == unlimited.run_id


# Speeds


def finished_run(method: str, factor: float, *, texts: int = 60, role: str = "final") -> Record:
    """A run of 100 steps that took `factor` times as long as it should at SPEEDS."""
    study = planned(documents=texts).model_copy(update={"methods": (method,), "trials": int(role == "trial")})
    run = next(one for one in planner.plan(study, HASHES, {}).runs if one.spec.role == role)
    speed = scaled(SPEEDS["tiny", method], factor)
    phases = {
        "load": speed.start,
        "train": 100 * speed.step,
        "evaluate": 40 * speed.check,
        "generate": texts * speed.write if role == "final" else 0.0,
    }
    record = record_of(run)
    curve = record.curve.model_copy(update={"train": curve_of({100: 1.0}, steps=100).train if speed.step else ()})
    details = RunDetails(validation_examples=40, test_examples=texts if role == "final" else None)
    return record.model_copy(
        update={"resources": resources_of(processes=1, **phases), "curve": curve, "details": details}
    )


def test_without_a_finished_run_the_probe_counts() -> None:
    assert speeds_so_far(SPEEDS, []) == SPEEDS
    failed = finished_run("lora", 3.0).model_copy(update={"status": "failed"})
    assert speeds_so_far(SPEEDS, [failed]) == SPEEDS


def test_what_no_run_shows_is_the_probe_in_proportion() -> None:
    found = speeds_so_far(SPEEDS, [finished_run("lora", 0.5)])
    assert found["tiny", "lora"].model_dump() == pytest.approx(scaled(SPEEDS["tiny", "lora"], 0.5).model_dump())
    assert found["tiny", "full"].model_dump() == pytest.approx(scaled(SPEEDS["tiny", "full"], 0.5).model_dump())
    # A trial writes no text.
    trial = speeds_so_far(SPEEDS, [finished_run("lora", 2.0, role="trial")])
    assert trial["tiny", "lora"].model_dump() == pytest.approx(scaled(SPEEDS["tiny", "lora"], 2.0).model_dump())


def test_the_last_runs_count_half() -> None:
    """Six runs as fast as the probe, then three that are half as fast: those to come are in between."""
    runs = [finished_run("lora", 1.0) for _ in range(6)] + [finished_run("lora", 2.0) for _ in range(3)]
    found = speeds_so_far(SPEEDS, runs)["tiny", "lora"].step
    mean = (6 + 3 * 2) / 9
    assert found == pytest.approx(mean * (1 + 2 / mean) / 2)


def test_the_length_of_a_run() -> None:
    record = finished_run("lora", 1.0)
    assert run_seconds(record) == pytest.approx(2 + 100 + 4 + 30)
    stamps = {"started_at": "2026-01-01T00:00:00+00:00", "finished_at": "2026-01-01T00:05:00+00:00"}
    assert run_seconds(record.model_copy(update=stamps)) == 300
    assert run_seconds(record.model_copy(update={"finished_at": "soon"})) == pytest.approx(136)


def test_scores_are_never_looked_at() -> None:
    """Two studies whose runs differ in nothing but their scores and losses are continued alike."""
    run = finished_run("lora", 1.4)
    other = run.model_copy(
        update={
            "scores": {"rouge1": 99.0},
            "curve": run.curve.model_copy(update={"best_validation_loss": 0.001}),
        }
    )
    assert speeds_so_far(SPEEDS, [run]) == speeds_so_far(SPEEDS, [other])


LOOKED = StudySpec.model_validate({**ASKED.model_dump(), "seeds": 8, "until_settled": True})


def test_a_study_with_looks_has_the_seeds_of_a_look() -> None:
    study = LOOKED.model_copy(update={"scored_documents": (60,)})
    assert study.looks == (3, 5, 6, 8)
    finished = done(zero_shot=1, lora=5, full=5)
    six = needed_by(study.model_copy(update={"seeds": 6}), finished)
    found = correct(study, six + 10, finished, LOOKED)
    assert (found.seeds, found.scored_documents, found.looks) == (6, (60,), (3, 5, 6, 8))
    # Between two looks the documents stay, and what is there is looked at.
    assert correct(study, 0.0, finished, LOOKED) == study.model_copy(update={"seeds": 5})
    again = correct(study.model_copy(update={"seeds": 5}), needed_by(study, finished) + 60, finished, LOOKED)
    assert again == study
    # Documents that limit the study do not keep it from a look: what that shows decides.
    few = LOOKED.model_copy(update={"seeds": 3, "scored_documents": (10,)})
    three = done(zero_shot=1, lora=3, full=3)
    five = needed_by(few.model_copy(update={"seeds": 5}), three)
    assert correct(few, five + 1, three, LOOKED) == few.model_copy(update={"seeds": 5})
    assert correct(few, five - 1, three, LOOKED) == few
    # The first look takes place, whatever the time.
    assert correct(study, 0.0, done(lora=1), LOOKED).seeds == 3


def test_seeds_that_a_look_made_needless_take_no_time() -> None:
    study = LOOKED.model_copy(update={"scored_documents": (60,)})
    finished = done(zero_shot=1, lora=5, full=3)
    stopped = DoneRuns(finished.trials, finished.looks, finished.seeds, {("tiny", "full"): 3})
    only_lora = done(zero_shot=1, lora=5, full=8)
    assert needed_by(study, stopped) == needed_by(study, only_lora) < needed_by(study, finished)


def test_a_study_that_is_late_keeps_the_look_that_was_taken() -> None:
    """A method that was stopped at an earlier look has all the seeds that it gets."""
    study = LOOKED.model_copy(update={"seeds": 5, "scored_documents": (60,)})
    finished = DoneRuns(
        {},
        {},
        {("tiny", "zero_shot", 1.0): {0}, ("tiny", "lora", 1.0): set(range(5)), ("tiny", "full", 1.0): {0, 1, 2}},
        {("tiny", "full"): 3},
    )
    assert correct(study, -1.0, finished, asked=LOOKED).seeds == 5
