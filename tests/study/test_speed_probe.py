"""What the probe measures, from records of short runs; and that `prepare` plans with it once."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from support.fake_executor import FakeExecutor
from support.planned import HASHES, curve_of, record_of, resources_of, study_of
from tuneoff.errors import RunFailure, UserError
from tuneoff.results.events import Event, Note
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_record import RunDetails
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import Speed
from tuneoff.spec import DataSpec, ModelSpec, PromptSpec, StudySpec, TrainSpec
from tuneoff.study import budget, planner, runner, speed_probe
from tuneoff.study.executor import Job, SilentObserver
from tuneoff.study.inputs import load_inputs
from tuneoff.study.runner import Limits, prepare
from tuneoff.study.speed_probe import measure_speeds


def test_speeds_are_per_step_and_per_example() -> None:
    """3 steps on rows of 1 token each; the first one warms up. 8 tokens an example, 8 examples a step."""
    [run] = planner.plan(study_of(methods=("lora",)), HASHES, {}).runs
    record = record_of(run).model_copy(
        update={
            "curve": curve_of({3: 1.0}, steps=3, step_seconds=0.5),
            "resources": resources_of(load=1.0, train=1.5, evaluate=3.2, generate=12.0),
            "details": RunDetails(validation_examples=16, test_examples=24),
        }
    )
    assert speed_probe._speed(record, 20.0, 8.0) == Speed(
        start=20 - 1.5 - 3.2 - 12, step=0.5 * 8 * 8, check=0.2, write=0.5
    )
    one = record.model_copy(update={"curve": curve_of({1: 1.0}, steps=1, step_seconds=1.75)})
    assert speed_probe._speed(one, 20.0, 8.0).step == 0.75  # since the end of loading
    none = record.model_copy(update={"curve": curve_of({0: 1.0})})
    assert speed_probe._speed(none, 1.0, 8.0) == Speed(start=0, step=0, check=0.2, write=0.5)


@pytest.fixture
def study(tiny_model: Callable[[str], Path], tiny_data: dict[str, Path]) -> StudySpec:
    return study_of(
        methods=("zero_shot", "lora"),
        seeds=3,
        trials=2,
        fractions=(0.5, 1.0),
        models=(ModelSpec(name=str(tiny_model("gpt_neo"))),),
        data=DataSpec.model_validate({f"{split}_file": str(path) for split, path in tiny_data.items()}),
        prompt=PromptSpec(max_length=128),
        train=TrainSpec(max_steps=200, min_steps=100, eval_steps=2),
    )


class Watch:
    """Counts what an observer is informed of."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def started(self, job: Job) -> None:
        self.seen.append(f"start {job.name}")

    def event(self, job: Job, event: Event) -> None:
        self.seen.append(f"event {job.name}")

    def ended(self, job: Job, run: StoredRun) -> None:
        self.seen.append(f"end {job.name}")


class Recorder(FakeExecutor):
    """Remembers its jobs, and lets each report something."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Job] = []

    def run(self, jobs: Sequence[Job], observer):
        self.jobs += jobs
        for job in jobs:
            assert job.dir.path.parent.exists()
            yield from super().run([job], observer)
            observer.event(job, Note(text="x"))


def test_every_method_is_probed_once_in_a_short_run(study: StudySpec) -> None:
    inputs, executor, watch = load_inputs(study), Recorder(), Watch()
    speeds = measure_speeds(study, inputs, executor, watch)
    [model] = study.models
    assert list(speeds) == [(model.name, "zero_shot"), (model.name, "lora")]
    # A probe is not a run of the study: it does not count as ended.
    assert watch.seen == [f"{what} probe of {name}-s0" for name in ("zero_shot", "lora") for what in ("start", "event")]
    for job in executor.jobs:
        train, data = job.spec.train, job.spec.data
        assert (train.max_steps, train.min_steps, train.eval_steps) == (3, None, None)
        assert (data.max_validation_documents, data.max_test_documents) == (16, 24)
        assert not job.dir.path.exists()


def test_a_method_that_cannot_be_run_ends_the_planning(study: StudySpec) -> None:
    failing = FakeExecutor(status=lambda job: "failed" if "lora" in job.name else "finished")
    with pytest.raises(RunFailure, match=r"probe of lora-s0 ended early .*leave out --budget"):
        measure_speeds(study, load_inputs(study), failing, SilentObserver())


def test_a_study_is_fitted_once_and_continues_with_its_plan(
    study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def speeds_of(asked: StudySpec, *_: object) -> dict[tuple[str, str], Speed]:
        measured.append(asked)
        return {
            (model.name, name): Speed(start=1, step=1, check=1, write=1)
            for model in asked.models
            for name in asked.methods
        }

    monkeypatch.setattr(runner, "measure_speeds", speeds_of)
    limits = Limits(budget_seconds=1.0)
    prepared = prepare(study, tmp_path, limits)
    assert measured == [study]
    assert prepared.fitted is not None
    assert prepared.spec == prepared.fitted.study
    assert (prepared.spec.seeds, prepared.spec.trials, prepared.fitted.fits) == (1, 0, False)
    assert [run.name for run in prepared.missing] == ["zero_shot-s0", "lora-s0"]
    assert list(tmp_path.iterdir()) == []
    runner.carry_out_study(prepared, FakeExecutor(["d32"]), SilentObserver())
    stored = StudyDir(tmp_path).load()
    assert stored.spec == prepared.spec.without_paths()
    again = prepare(study, tmp_path, limits)
    assert measured == [study]
    assert (again.spec, again.missing, again.fitted) == (prepared.spec, (), prepared.fitted)
    (tmp_path / "budget.json").write_text("{")
    with pytest.raises(UserError, match=r"damaged.*run the same command again"):
        prepare(study, tmp_path, limits)


def test_equal_time_is_refused_before_anything_is_measured(
    study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "measure_speeds", lambda *_: pytest.fail("measured"))
    with pytest.raises(UserError, match="--equal time"):
        prepare(study, tmp_path, Limits(equal="time"))


def test_the_limit_includes_the_probe(study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speed = Speed(start=1, step=1, check=1, write=1)
    speeds = {(model.name, name): speed for model in study.models for name in study.methods}
    times = iter((100.0, 107.0))
    monkeypatch.setattr(time, "perf_counter", lambda: next(times, 107.0))
    monkeypatch.setattr(runner, "measure_speeds", lambda *_: speeds)
    seen: list[float] = []
    real = budget.fit

    def recorded(*rest, **named):
        seen.append(rest[3])
        return real(*rest, **named)

    monkeypatch.setattr(budget, "fit", recorded)
    prepare(study, tmp_path, Limits(budget_seconds=60.0))
    assert seen == [53.0]
