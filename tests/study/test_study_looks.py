"""Studies that stop when they are settled, with scores from a known model and without training."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from support.fake_executor import EagerExecutor, FakeExecutor
from support.known_scores import known_scores
from tiny import example_row
from tuneoff.errors import UserError
from tuneoff.results.events import Event, Note
from tuneoff.results.run_record import Record
from tuneoff.results.study_dir import StoredStudy, StudyDir
from tuneoff.results.study_state import BudgetFile, Speed
from tuneoff.spec import DataSpec, ModelSpec, PromptSpec, StudySpec
from tuneoff.study import jobs, speed_probe
from tuneoff.study.executor import Job, SilentObserver
from tuneoff.study.inputs import StudyInputs
from tuneoff.study.runner import Limits, carry_out_study, prepare
from tuneoff.study.shared_folder import SharedFolderExecutor, take_part
from tuneoff.verdict.summarize import summarize

DOCUMENTS = 40
METHODS = ("zero_shot", "few_shot", "soft_prompt", "lora")
TIE = {"zero_shot": 30.0, "few_shot": 20.0, "soft_prompt": 40.0, "lora": 40.2}
CLEAR = {"zero_shot": 30.0, "few_shot": 20.0, "soft_prompt": 32.0, "lora": 50.0}
SpecOf = Callable[..., StudySpec]


class Listening(SilentObserver):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def event(self, job: Job, event: Event) -> None:
        if isinstance(event, Note):
            self.notes.append(event.text)


@pytest.fixture
def spec_of(tiny_model: Callable[[str], Path], tmp_path: Path) -> SpecOf:
    files = {}
    for split, start, count in (("train", 0, 24), ("validation", 24, 8), ("test", 32, DOCUMENTS)):
        files[f"{split}_file"] = str(tmp_path / f"{split}.jsonl")
        rows = (example_row(start + index) for index in range(count))
        Path(files[f"{split}_file"]).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(**settings: object) -> StudySpec:
        plain: dict[str, object] = {
            "models": (ModelSpec(name=str(tiny_model("gpt_neo"))),),
            "methods": METHODS,
            "data": DataSpec.model_validate(files),
            "prompt": PromptSpec(max_length=256),
            "until_settled": True,
        }
        return StudySpec.model_validate({**plain, **settings})

    return make


def carried_out(
    spec: StudySpec,
    folder: Path,
    means: Mapping[str, float],
    seed_sd: float = 1.0,
    kind: type[FakeExecutor] = FakeExecutor,
    **settings: object,
) -> tuple[StoredStudy, FakeExecutor, Listening]:
    prepared = prepare(spec, folder)
    executor = kind(
        [example.id for example in prepared.inputs.dataset.test],
        scores=known_scores(means, DOCUMENTS, seed_sd=seed_sd),
        **settings,  # type: ignore[arg-type]
    )
    observer = Listening()
    return carry_out_study(prepared, executor, observer), executor, observer


def seeds_of(study: StoredStudy) -> dict[str, int]:
    counts: dict[str, int] = {}
    for run in study.runs:
        if run.record.spec.is_main:
            counts[run.record.spec.method.name] = counts.get(run.record.spec.method.name, 0) + 1
    return counts


def scores_in(study: StoredStudy) -> dict[str, object]:
    return {run.name: [row.scores for row in run.predictions] for run in study.runs}


def test_a_clear_winner_settles_the_study_at_the_first_look(spec_of: SpecOf, tmp_path: Path) -> None:
    study, executor, observer = carried_out(spec_of(), tmp_path / "study", CLEAR)
    assert seeds_of(study) == {"zero_shot": 1, "few_shot": 3, "soft_prompt": 3, "lora": 3}
    assert len(executor.rounds) == 1
    assert study.complete
    assert [note for note in observer.notes if note.startswith("look after 3 seeds")] == observer.notes
    assert "Zero-shot, Few-shot and Soft prompt are shown to lose more than 0.5 points" in observer.notes[0]
    assert observer.notes[0].endswith("; all is settled")


def test_a_tie_goes_on_to_the_last_look_and_the_losers_do_not(spec_of: SpecOf, tmp_path: Path) -> None:
    study, executor, observer = carried_out(spec_of(), tmp_path / "study", TIE)
    assert seeds_of(study) == {"zero_shot": 1, "few_shot": 3, "soft_prompt": 6, "lora": 6}
    assert executor.rounds[1:] == [[f"soft_prompt-s{seed}", f"lora-s{seed}"] for seed in (3, 4, 5)]
    assert [note.partition(":")[0] for note in observer.notes] == [f"look after {n} seeds" for n in (3, 4, 5, 6)]
    assert study.complete
    again, executor, observer = carried_out(spec_of(), tmp_path / "study", TIE)
    assert (executor.rounds, observer.notes) == ([], [])
    assert scores_in(again) == scores_in(study)


@pytest.mark.parametrize(
    "killed_at",
    [
        "lora-s3",
        *(pytest.param(run, marks=pytest.mark.slow) for run in ("lora-s2", "soft_prompt-s3", "lora-s5")),
    ],
)
def test_a_study_that_is_killed_goes_on_to_the_same_records(spec_of: SpecOf, tmp_path: Path, killed_at: str) -> None:
    whole, _, _ = carried_out(spec_of(), tmp_path / "whole", TIE)
    with pytest.raises(KeyboardInterrupt):
        carried_out(spec_of(), tmp_path / "study", TIE, interrupt_at=killed_at)
    stopped = StudyDir(tmp_path / "study").load()
    assert not stopped.complete
    study, _, _ = carried_out(spec_of(), tmp_path / "study", TIE)
    assert study.complete
    assert scores_in(study) == scores_in(whole)
    assert summarize(study).verdicts == summarize(whole).verdicts


@pytest.mark.parametrize("means", [TIE, pytest.param(CLEAR, marks=pytest.mark.slow)])
def test_looks_do_not_depend_on_the_order_of_the_runs(
    spec_of: SpecOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, means: dict[str, float]
) -> None:
    """A free worker asks for runs at any time; a look is taken when all that it needs have ended."""
    monkeypatch.setattr(jobs, "PLANNING_SHARE", 1e9)
    spec = spec_of(trials=1)
    planned, _, observer = carried_out(spec, tmp_path / "planned", means)
    eager, executor, eager_observer = carried_out(spec, tmp_path / "eager", means, kind=EagerExecutor)
    assert eager_observer.notes == observer.notes
    assert scores_in(eager) == scores_in(planned)
    assert summarize(eager).verdicts == summarize(planned).verdicts
    names = executor.names
    assert names.index("lora-s0") < names.index("few_shot-trial1")  # it did not wait for all trials


def test_where_documents_are_the_limit_no_seeds_follow(spec_of: SpecOf, tmp_path: Path) -> None:
    study, _, observer = carried_out(spec_of(), tmp_path / "study", {**TIE, "lora": 40.0}, 0.01)
    assert seeds_of(study)["lora"] == 3
    assert observer.notes[0].endswith("; the test documents are the limit, further seeds would hardly help")


def test_a_method_with_a_failed_training_takes_part_no_longer(spec_of: SpecOf, tmp_path: Path) -> None:
    study, _, observer = carried_out(
        spec_of(), tmp_path / "study", TIE, status=lambda job: "failed" if job.name == "lora-s1" else "finished"
    )
    assert seeds_of(study)["lora"] == 3
    assert "LoRA takes part no longer, because a training failed" in observer.notes[0]
    # Without LoRA, soft prompt is the best of those that are left.
    assert observer.notes[0].endswith("; all is settled")
    # The next start repeats the training, and then the looks go on with both.
    study, executor, _ = carried_out(spec_of(), tmp_path / "study", TIE)
    assert executor.names[0] == "lora-s1"
    assert seeds_of(study) == {"zero_shot": 1, "few_shot": 3, "soft_prompt": 6, "lora": 6}


def test_smaller_fractions_come_last_with_the_seeds_of_the_first_look(spec_of: SpecOf, tmp_path: Path) -> None:
    _, executor, _ = carried_out(spec_of(fractions=(0.5, 1.0)), tmp_path / "study", CLEAR)
    assert executor.rounds[-1] == [
        f"{name}-f0.5-s{seed}" for name in ("few_shot", "soft_prompt", "lora") for seed in range(3)
    ]


def test_trials_come_before_the_first_look(spec_of: SpecOf, tmp_path: Path) -> None:
    study, executor, _ = carried_out(
        spec_of(trials=1, methods=("lora", "full")), tmp_path / "study", {"lora": 50, "full": 20}
    )
    assert [len(names) for names in executor.rounds] == [2, 2, 6]
    assert study.complete


def test_looks_are_fixed_beforehand(spec_of: SpecOf, tmp_path: Path) -> None:
    carried_out(spec_of(), tmp_path / "study", CLEAR)
    with pytest.raises(UserError, match=r"a different study \(looks: \[3, 4, 5, 6\] -> \[3, 5, 6, 8\]\)"):
        prepare(spec_of(seeds=8), tmp_path / "study")
    with pytest.raises(UserError, match="until_settled: True -> default"):
        prepare(spec_of(until_settled=False, seeds=6), tmp_path / "study")


def test_each_model_has_looks_of_its_own(spec_of: SpecOf, tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    models = tuple(ModelSpec(name=str(tiny_model(kind))) for kind in ("gpt_neo", "llama"))
    spec = spec_of(models=models, methods=("few_shot", "lora"))

    def scores(job: Job) -> list[float]:
        means = {"few_shot": 40.0, "lora": 40.1} if job.spec.model == models[0] else {"few_shot": 20.0, "lora": 40.0}
        return known_scores(means, DOCUMENTS)(job)

    prepared = prepare(spec, tmp_path / "study")
    executor = FakeExecutor([example.id for example in prepared.inputs.dataset.test], scores=scores)
    study = carry_out_study(prepared, executor, SilentObserver())
    runs = [run.record.spec for run in study.runs]
    assert [sum(spec.model == model for spec in runs) for model in models] == [12, 6]


def test_machines_that_share_a_folder_take_the_same_looks(spec_of: SpecOf, tmp_path: Path) -> None:
    whole, _, _ = carried_out(spec_of(), tmp_path / "whole", TIE)
    ids = [document.id for document in whole.documents]

    def shared(**settings: object) -> SharedFolderExecutor:
        return SharedFolderExecutor(
            inner=lambda _layout: FakeExecutor(ids, scores=known_scores(TIE, DOCUMENTS), **settings),  # type: ignore[arg-type]
            poll_seconds=0.01,
        )

    spec, folder = spec_of(), tmp_path / "study"
    with pytest.raises(KeyboardInterrupt):
        carry_out_study(prepare(spec, folder), shared(interrupt_at="few_shot-s1"), SilentObserver(), shared=True)
    worked = take_part(folder, shared(), SilentObserver())
    assert worked.left == 0
    study = carry_out_study(prepare(spec, folder), shared(), SilentObserver(), shared=True)
    assert study.complete
    assert scores_in(study) == scores_in(whole)
    assert not study.dir.is_shared()


@pytest.fixture
def probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe that finds that each run takes a minute."""
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    speeds = Speed(start=60, step=0, check=0, write=0)
    monkeypatch.setattr(
        speed_probe,
        "measure_speeds",
        lambda study, *_: {(model.name, name): speeds for model in study.models for name in study.methods},
    )


@pytest.mark.usefixtures("probe")
def test_a_time_limit_plans_the_first_look_and_more_looks_if_there_is_time(spec_of: SpecOf, tmp_path: Path) -> None:
    """The runs take no time at all."""
    spec, limits = spec_of(), Limits(budget_seconds=700.0)
    prepared = prepare(spec, tmp_path / "study", limits)
    assert prepared.fitted is not None
    assert prepared.spec.seeds == 3
    assert any("seeds 6 -> 3" in line for line in prepared.fitted.reduced)
    executor = FakeExecutor(
        [example.id for example in prepared.inputs.dataset.test],
        scores=known_scores(TIE, documents_of(prepared.inputs)),
    )
    study = carry_out_study(prepared, executor, SilentObserver())
    assert seeds_of(study) == {"zero_shot": 1, "few_shot": 3, "soft_prompt": 6, "lora": 6}
    assert isinstance(study.budget, BudgetFile)
    assert any("seeds 3 -> 6" in line for line in study.budget.corrections)
    assert study.complete
    assert prepare(spec, tmp_path / "study", limits).missing == ()


@pytest.mark.usefixtures("probe")
def test_looks_for_which_no_time_is_left_are_named(
    spec_of: SpecOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run takes a minute: ten until the first look, two more for each that follows."""
    now = [1000.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    class Minute(FakeExecutor):
        def _carry_out(self, job: Job) -> Record:
            now[0] += 60.0
            record = super()._carry_out(job)
            stamps = {"started_at": "2026-01-01T00:00:00+00:00", "finished_at": "2026-01-01T00:01:00+00:00"}
            job.dir.write_record(record.model_copy(update=stamps))
            return job.dir.read_record()

    spec, limits = spec_of(), Limits(budget_seconds=770.0)
    prepared = prepare(spec, tmp_path / "study", limits)
    documents = documents_of(prepared.inputs)
    ids = [example.id for example in prepared.inputs.dataset.test]
    study = carry_out_study(prepared, Minute(ids, scores=known_scores(TIE, documents)), SilentObserver())
    assert seeds_of(study) == {"zero_shot": 1, "few_shot": 3, "soft_prompt": 4, "lora": 4}
    [verdict] = summarize(study).verdicts
    assert verdict.looks is not None
    assert [one.seeds for one in verdict.looks.taken] == [3, 4]
    assert verdict.looks.left_out == (5, 6)
    assert study.complete
    again = prepare(spec, tmp_path / "study", limits)
    assert (again.missing, again.spec.seeds) == ((), 4)


def documents_of(inputs: StudyInputs) -> int:
    return len(inputs.dataset.test)
