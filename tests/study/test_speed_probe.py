"""What the probe measures, from records of short runs; and that `prepare` plans with it once."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from support.fake_executor import FakeExecutor
from support.planned import resources_of, study_of
from tuneoff.errors import RunFailure, UserError
from tuneoff.results.events import Event, Generated, Note, PhaseStarted, StepDone, Validated
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_record import RunDetails
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import BudgetFile, Speed
from tuneoff.spec import DataSpec, ModelSpec, PromptSpec, StudySpec, TrainSpec
from tuneoff.study import budget, runner, speed_probe
from tuneoff.study.duration import Speeds
from tuneoff.study.executor import Job, Observer, SilentObserver
from tuneoff.study.inputs import load_inputs
from tuneoff.study.runner import Limits, prepare
from tuneoff.study.speed_probe import measure_speeds
from tuneoff.verdict.summarize import summarize


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


def a_second_each(asked: StudySpec, *_: object) -> Speeds:
    """In place of `measure_speeds`."""
    speed = Speed(start=1, step=1, check=1, write=1)
    return {(model.name, name): speed for model in asked.models for name in asked.methods}


class Machine(FakeExecutor):
    """Carries out probes in virtual time, with the events that a run reports.

    `paces` gives the seconds per step of a method, one for each step of a run; the last one repeats.
    """

    def __init__(
        self, paces: dict[str, list[float]], *, text: float = 0.5, load: float = 4.0, boot: float = 6.0
    ) -> None:
        super().__init__()
        self.now, self.jobs = 100.0, list[Job]()
        self._paces, self._text, self._load, self._boot = paces, 0.5, 4.0, 6.0

    def run(self, jobs: Sequence[Job], observer: Observer) -> Iterator[StoredRun]:
        for job in jobs:
            boot = self._boot if not self.jobs else 0.25  # the first starts the server too
            self.jobs.append(job)
            observer.started(job)
            self.now += boot
            began = self.now
            observer.event(job, PhaseStarted(phase="load", seconds=0.0))
            self.now += self._load
            phases: dict[str, float] = {}
            for phase in ("train", "evaluate", "generate"):
                since = self.now
                observer.event(job, PhaseStarted(phase=phase, seconds=since - began))
                for event in self._work(phase, job, began):
                    observer.event(job, event)
                phases[phase] = self.now - since
            record = self._carry_out(job).model_copy(
                update={
                    "resources": resources_of(processes=1, **phases),
                    "details": RunDetails(
                        validation_examples=job.spec.data.max_validation_documents,
                        test_examples=job.spec.data.max_test_documents,
                    ),
                }
            )
            self.now += 1.0  # what follows the texts
            run = StoredRun(job.dir, record)
            observer.ended(job, run)
            yield run

    def _work(self, phase: str, job: Job, began: float) -> Iterator[Event]:
        steps, paces = job.spec.train.max_steps, self._paces.get(job.spec.method.name, [])
        if phase == "train" and paces:
            assert steps is not None
            for step in range(1, steps + 1):
                self.now += paces[min(step, len(paces)) - 1]
                yield StepDone(
                    step=step, steps=steps, epoch=0.1, loss=1.0, learning_rate=1e-3, grad_norm=1.0, tokens=100,
                    seconds=self.now - began,
                )  # fmt: skip
        elif phase == "evaluate":
            self.now += self._text / 5 * (job.spec.data.max_validation_documents or 0)
            yield Validated(step=1, epoch=0.1, loss=1.0, best=True, seconds=self.now - began)
        elif phase == "generate":
            texts = job.spec.data.max_test_documents or 0
            self.now += self._text * texts
            yield Generated(done=texts, total=texts, seconds=self.now - began)


def probe(
    study: StudySpec, machine: Machine, tmp_path: Path, seconds: float | None = None, watch: Observer | None = None
) -> dict[str, Speed]:
    """What is measured if a batch of this study has 100 tokens."""
    inputs = load_inputs(study)
    measured = speed_probe._Probe(
        study, inputs, machine, watch or SilentObserver(), "fp32", seconds, tmp_path, clock=lambda: machine.now
    )
    measured._tokens = {model.name: 100 / study.train.batch_size for model in study.models}
    return {method: speed for (_, method), speed in measured.measure(1).items()}


class Watch:
    """Remembers what an observer is informed of."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.notes: list[str] = []

    def started(self, job: Job) -> None:
        self.seen.append(f"start {job.name}")

    def event(self, job: Job, event: Event) -> None:
        if isinstance(event, Note):
            self.notes.append(event.text)

    def ended(self, job: Job, run: StoredRun) -> None:
        self.seen.append(f"end {job.name}")


def test_steady_steps_are_measured_and_the_warm_up_is_by_itself(study: StudySpec, tmp_path: Path) -> None:
    """The first step takes 8 s, the others 3.5 s: the study has one such step in each run."""
    machine, watch = Machine({"lora": [8.0, 3.5]}), Watch()
    found = probe(study, machine, tmp_path, watch=watch)
    expected = {"start": 5.25, "step": 3.5, "check": 0.1, "write": 0.5, "warm_up": 4.5}
    assert found["lora"].model_dump() == pytest.approx(expected)
    assert found["zero_shot"].model_dump() == pytest.approx({**expected, "step": 0, "warm_up": 0})
    # A probe is not a run of the study: it does not count as ended. What is trained comes first.
    assert watch.seen == ["start probe of lora-s0", "start probe of zero_shot-s0"]
    assert watch.notes == ["measures how fast this machine is with 2 methods"]
    for job in machine.jobs:
        train, data = job.spec.train, job.spec.data
        assert (train.max_steps, train.min_steps, train.eval_steps) == (4, None, None)
        assert (data.max_validation_documents, data.max_test_documents) == (16, 24)
        assert job.number_format == "fp32"


def test_noisy_steps_are_measured_again_for_longer(study: StudySpec, tmp_path: Path) -> None:
    machine, watch = Machine({"lora": [8.0, 3.0, 7.0, 3.5, 3.5]}), Watch()
    found = probe(study, machine, tmp_path, watch=watch)
    assert [(job.spec.method.name, job.spec.train.max_steps) for job in machine.jobs] == [
        ("lora", 4),
        ("zero_shot", 4),
        ("lora", 8),
    ]
    assert found["lora"].step == pytest.approx(3.5)  # the median of 3 + 7 steady steps
    assert found["lora"].write == 0.5
    assert watch.notes[1] == "steps differ by 114 %; 8 more are measured"
    assert len(machine.jobs) == 3
    # Without the time for it, the three steps have to do.
    short = Machine({"lora": [8.0, 3.0, 7.0, 3.5, 3.5]})
    assert probe(study, short, tmp_path, seconds=80.0)["lora"].step == pytest.approx(3.5)
    assert len(short.jobs) == 2


@pytest.mark.parametrize("seconds", [12.0, 24.0, 45.0, 60.0, 90.0, 200.0])
@pytest.mark.parametrize("step", [0.2, 3.5, 8.0])
def test_the_probe_takes_no_longer_than_it_may(study: StudySpec, tmp_path: Path, seconds: float, step: float) -> None:
    """At most a step or a batch of texts more, which cannot be interrupted; the first method needs its first step."""
    machine = Machine({"lora": [2 * step, step], "full": [2.2 * step, 1.1 * step]})
    methods = study.model_copy(update={"methods": ("zero_shot", "few_shot", "lora", "full")})
    found = probe(methods, machine, tmp_path, seconds=seconds)
    assert machine.now - 100 <= max(seconds, 10 + 2 * step) + max(step, 24 * 0.5)
    assert list(found) == list(methods.methods)
    for name, speed in found.items():
        assert (speed.step > 0) == (name in ("lora", "full"))
        assert speed.check > 0
        assert speed.write > 0
    if seconds >= 90:
        assert found["full"].step == pytest.approx(1.1 * step)


def test_a_probe_that_is_cut_short_knows_the_first_step(study: StudySpec, tmp_path: Path) -> None:
    """Nothing else is known, so the rest is guessed from it: the study corrects its plan with its first runs."""
    machine = Machine({"lora": [30.0]})
    found = probe(study, machine, tmp_path, seconds=5.0)
    assert len(machine.jobs) == 1
    assert found["lora"].step == pytest.approx(30)
    assert found["zero_shot"] == found["lora"].model_copy(update={"step": 0.0})
    assert 0 < found["lora"].check < found["lora"].write < 30


def test_a_method_that_cannot_be_run_ends_the_planning(study: StudySpec) -> None:
    failing = FakeExecutor(status=lambda job: "failed" if "lora" in job.name else "finished")
    with pytest.raises(RunFailure, match=r"probe of lora-s0 ended early .*leave out --budget"):
        measure_speeds(study, load_inputs(study), failing, SilentObserver())


def test_nothing_of_a_probe_is_left(study: StudySpec) -> None:
    executor = Machine({"lora": [1.0]})
    measure_speeds(study, load_inputs(study), executor, SilentObserver())
    assert len(executor.jobs) == 2
    assert not any(job.dir.path.exists() for job in executor.jobs)


def test_the_lines_for_people() -> None:
    speeds = {
        ("tiny", "zero_shot"): Speed(start=5, step=0, check=0.1, write=0.75),
        ("tiny", "lora"): Speed(start=5.25, step=3.5, check=0.1, write=0.5, warm_up=4.5),
    }
    assert list(speed_probe.speed_lines(speeds)) == [
        "zero_shot: 0.75 s a text, 5.0 s to start",
        "lora: 3.5 s a step (4.5 s more for the first), 0.5 s a text, 5.2 s to start",
    ]


@pytest.fixture(autouse=True)
def empty_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Speeds are kept in the cache."""
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path_factory.mktemp("cache")))


def test_the_study_after_a_dry_run_does_not_measure_again(
    study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float | None] = []

    def measured(study: StudySpec, _inputs, _executor, _observer, _format, seconds: float, _processes) -> Speeds:
        asked.append(seconds)
        return {(study.models[0].name, name): Speed(start=1, step=2, check=3, write=4) for name in study.methods}

    monkeypatch.setattr(speed_probe, "measure_speeds", measured)
    dry = prepare(study, tmp_path / "out", Limits(budget_seconds=240.0))
    again = prepare(study, tmp_path / "out", Limits(budget_seconds=240.0))
    assert asked == [24.0]  # a tenth
    assert (dry.speeds_age, again.speeds) == (None, dry.speeds)
    assert again.speeds_age is not None
    assert prepare(study.model_copy(update={"methods": ("lora",)}), tmp_path / "o", Limits(240.0)).speeds_age is None
    assert prepare(study, tmp_path / "out", Limits(budget_seconds=900.0)).speeds_age is None  # may measure for longer
    assert asked == [24.0, 24.0, 90.0]


def test_a_study_is_fitted_once_and_continues_with_its_plan(
    study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def speeds_of(asked: StudySpec, *_: object) -> Speeds:
        measured.append(asked)
        return a_second_each(asked)

    monkeypatch.setattr(speed_probe, "measure_speeds", speeds_of)
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


def test_a_study_that_a_budget_reduced_gets_more_seeds(
    study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed_probe, "measure_speeds", a_second_each)
    reduced = prepare(study, tmp_path, Limits(budget_seconds=1.0))
    assert reduced.spec.train != study.train
    done = runner.carry_out_study(reduced, FakeExecutor(["d32"]), SilentObserver())
    assert done.spec is not None
    said: list[str] = []
    more = prepare(study.model_copy(update={"seeds": done.spec.seeds + 2}), tmp_path, notify=said.append)
    assert more.spec.without_paths() == done.spec.model_copy(update={"seeds": done.spec.seeds + 2})
    assert [run.name for run in more.missing] == ["lora-s1", "lora-s2"]
    with_method = done.spec.model_copy(update={"methods": (*study.methods, "ia3")})
    further = prepare(
        study.model_copy(update={"seeds": 1, "methods": with_method.methods}), tmp_path, notify=lambda _text: None
    )
    assert further.spec.without_paths() == with_method
    assert [run.name for run in further.missing] == ["ia3-s0"]
    assert len([line for line in said if "was reduced by --budget" in line]) == 1
    other = study.model_copy(update={"prompt": study.prompt.model_copy(update={"instruction": "Shorter:"})})
    with pytest.raises(UserError, match=r"belongs to a different study .*prompt\.instruction"):
        prepare(other, tmp_path)
    grown = runner.carry_out_study(more, FakeExecutor(["d32"]), SilentObserver())
    budget_of_report = summarize(grown).budget
    assert budget_of_report is not None
    assert budget_of_report.problem is None
    assert any("optimiser steps" in line for line in budget_of_report.reduced)
    assert prepare(study, tmp_path, Limits(budget_seconds=1.0)).spec.seeds == done.spec.seeds + 2  # none is left out


def test_documents_that_a_budget_left_stay(study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise all finished runs would be repeated for more documents."""

    def fit(asked: StudySpec, *_: object, **_more: object) -> budget.FittedStudy:
        fewer = asked.model_copy(update={"scored_documents": (2,)})
        return budget.FittedStudy(fewer, 1.0, ("test documents 5 -> 2",), fits=False)

    monkeypatch.setattr(speed_probe, "measure_speeds", lambda *_: {})
    monkeypatch.setattr(budget, "fit", fit)
    one = study.model_copy(update={"trials": 0, "seeds": 1, "fractions": (1.0,)})
    reduced = prepare(one, tmp_path, Limits(budget_seconds=30.0))
    runner.carry_out_study(reduced, FakeExecutor(["d32"]), SilentObserver(), correct=False)
    more = prepare(one.model_copy(update={"seeds": 2}), tmp_path, notify=lambda _text: None)
    assert more.spec.scored_documents == (2,)
    assert [run.name for run in more.missing] == ["lora-s1"]


def test_a_method_is_not_added_to_a_study_of_equal_time(
    study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed_probe, "measure_speeds", a_second_each)
    one = study.model_copy(update={"trials": 0, "seeds": 1, "fractions": (1.0,)})
    runner.carry_out_study(prepare(one, tmp_path, Limits(equal="time")), FakeExecutor(["d32"]), SilentObserver())
    with pytest.raises(UserError, match="belongs to a different study"):
        prepare(one.model_copy(update={"methods": (*one.methods, "full")}), tmp_path)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("{")])
def test_a_study_whose_budget_file_is_lost_keeps_its_settings(
    study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object]
) -> None:
    """What is measured again is never quite the same, and another plan would be another study."""
    seconds = [1.0]

    def speeds_of(asked: StudySpec, *_: object) -> dict[tuple[str, str], Speed]:
        [each] = seconds
        speed = Speed(start=each, step=each, check=each, write=each)
        return {(model.name, name): speed for model in asked.models for name in asked.methods}

    monkeypatch.setattr(speed_probe, "measure_speeds", speeds_of)
    limits = Limits(budget_seconds=100.0)
    said: list[str] = []
    prepared = prepare(study, tmp_path, limits)
    done = runner.carry_out_study(prepared, FakeExecutor(["d32"]), SilentObserver())
    damage(tmp_path / "budget.json")
    seconds[0] = 0.001
    with contextlib.ExitStack() as held:
        again = prepare(study, tmp_path, limits, held=held, notify=said.append)
        assert again.spec.without_paths() == done.spec  # corrected while it ran
        assert again.fitted is not None
        assert isinstance(done.budget, BudgetFile)
        assert sorted(again.fitted.reduced) == sorted(done.budget.given_up) != []
        runner.carry_out_study(again, FakeExecutor(["d32"]), SilentObserver())
    assert [line for line in said if "the study keeps the settings that study.json has" in line]
    stored = StudyDir(tmp_path).read_budget()
    assert stored is not None
    assert not StudyDir(tmp_path).has_lost_budget()
    assert prepare(study, tmp_path, limits).spec == again.spec


def test_equal_time_is_refused_before_anything_is_measured(
    study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed_probe, "measure_speeds", lambda *_: pytest.fail("measured"))
    with pytest.raises(UserError, match="--equal time"):
        prepare(study, tmp_path, Limits(equal="time"))


def test_the_limit_includes_the_probe(study: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speed = Speed(start=1, step=1, check=1, write=1)
    speeds = {(model.name, name): speed for model in study.models for name in study.methods}
    times = iter((100.0, 107.0))
    monkeypatch.setattr(time, "perf_counter", lambda: next(times, 107.0))
    monkeypatch.setattr(speed_probe, "measure_speeds", lambda *_: speeds)
    seen: list[float] = []
    real = budget.fit

    def recorded(*rest, **named):
        seen.append(rest[3])
        return real(*rest, **named)

    monkeypatch.setattr(budget, "fit", recorded)
    prepare(study, tmp_path, Limits(budget_seconds=60.0))
    assert seen == [pytest.approx(0.98 * 60 - 5 - 7)]  # the report takes some seconds too
