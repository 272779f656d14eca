"""A study from its spec to stored results, with an executor that trains nothing."""

import json
import math
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from support.fake_executor import TEXT, EagerExecutor, FakeExecutor
from support.fake_runs import PRELOAD
from tiny import example_row
from tuneoff.errors import UserError
from tuneoff.results.events import Event, Note
from tuneoff.results.run_claims import Team, Worker, WorkerState
from tuneoff.results.run_dir import RunDir, StoredRun
from tuneoff.results.run_record import NUMERICS_VERSION, Prediction, Record, Status
from tuneoff.results.study_dir import StoredStudy, StudyDir
from tuneoff.results.study_state import BudgetFile, PlanFile, ReducedSettings, Speed
from tuneoff.spec import DataSpec, ModelSpec, PromptSpec, StudySpec, TrainSpec
from tuneoff.study import concurrency, jobs, runner, speed_probe
from tuneoff.study.duration import Speeds
from tuneoff.study.executor import Job, LocalExecutor, Observer, SilentObserver
from tuneoff.study.launcher import WHOLE_MACHINE, Layout
from tuneoff.study.runner import Limits, PreparedStudy, prepare

SpecOf = Callable[..., StudySpec]
DOCUMENT = "paper"  # a word of every document


@pytest.fixture
def spec_of(tiny_model: Callable[[str], Path], tiny_data: dict[str, Path]) -> SpecOf:
    def make(**settings: object) -> StudySpec:
        plain: dict[str, object] = {
            "name": "mine",
            "models": (ModelSpec(name=str(tiny_model("gpt_neo"))),),
            "methods": ("zero_shot", "few_shot", "lora"),
            "data": DataSpec.model_validate({f"{split}_file": str(path) for split, path in tiny_data.items()}),
            "prompt": PromptSpec(max_length=128),
        }
        return StudySpec.model_validate({**plain, **settings})

    return make


def carry_out(prepared: PreparedStudy, executor: FakeExecutor, *, keep_texts: bool = True) -> StoredStudy:
    return runner.carry_out_study(prepared, executor, SilentObserver(), keep_texts=keep_texts)


def executor_for(prepared: PreparedStudy, **settings: object) -> FakeExecutor:
    ids = [example.id for example in prepared.inputs.dataset.test]
    return FakeExecutor(ids, **settings)  # type: ignore[arg-type]


def failing(name: str, status: Status = "failed") -> Callable[[Job], Status]:
    return lambda job: status if job.name == name else "finished"


def test_preparing_changes_nothing(spec_of: SpecOf, tmp_path: Path) -> None:
    prepared = prepare(spec_of(trials=2), tmp_path / "a" / "study")
    assert list(tmp_path.iterdir()) == []
    assert [run.name for run in prepared.missing] == [
        f"{method}-trial{number}" for method in ("zero_shot", "few_shot", "lora") for number in (1, 2)
    ]
    assert prepared.total == 3 * 3 + 3
    assert prepared.layout == WHOLE_MACHINE


def test_final_runs_follow_from_trials(spec_of: SpecOf, tmp_path: Path) -> None:
    prepared = prepare(spec_of(trials=2, seeds=2), tmp_path)
    executor = executor_for(prepared)
    done = carry_out(prepared, executor)
    assert [len(names) for names in executor.rounds] == [6, 3, 5]
    assert executor.rounds[2] == ["zero_shot-s0", "few_shot-s0", "few_shot-s1", "lora-s0", "lora-s1"]
    assert done.complete
    search = StudyDir(tmp_path).read_search()
    assert search is not None
    chosen = {cell.method: cell.chosen for cell in search.cells}
    finals = [record for record in done.records if record.spec.role == "final"]
    assert {record.spec.method.hyperparameters.get("learning_rate") for record in finals} >= {chosen["lora"]}


def test_a_final_run_starts_while_a_trial_of_another_method_works(spec_of: SpecOf, tmp_path: Path) -> None:
    """The trial of LoRA ends when the final run of zero-shot has started, and fails if that never happens."""
    prepared = prepare(spec_of(methods=("zero_shot", "lora"), trials=2), tmp_path)
    target = "support.fake_runs:lora_trial_waits_for_zero_shot"
    with LocalExecutor(Layout(2, 1), preload=PRELOAD, start_method="forkserver", target=target) as executor:
        done = runner.carry_out_study(prepared, executor, SilentObserver())
    assert done.complete
    assert {record.name: record.status for record in done.records if record.status != "finished"} == {}


def test_results_do_not_depend_on_the_order_of_the_runs(
    spec_of: SpecOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PLANNING_SHARE", 1e9)
    spec = spec_of(trials=2, seeds=2, fractions=(0.5, 1.0))
    planned, eager = (prepare(spec, tmp_path / name) for name in ("planned", "eager"))
    in_rounds = executor_for(planned)
    carry_out(planned, in_rounds)
    executor = EagerExecutor([example.id for example in eager.inputs.dataset.test])
    done = carry_out(eager, executor)
    assert done.complete
    assert sorted(executor.names) == sorted(in_rounds.names)  # nothing is done that turns out not to be needed
    assert executor.names.index("lora-s0") < executor.names.index("few_shot-trial1")
    for name in ("plan.json", "search.json"):
        assert (tmp_path / "eager" / name).read_bytes() == (tmp_path / "planned" / name).read_bytes()


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_large_study_writes_its_manifest_seldom(
    spec_of: SpecOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    """Each time takes as long as all of its entries, so with every run it would be the square of their number."""
    monkeypatch.setattr(runner, "_COVERED_AT_ONCE", 2)
    covered: list[int] = []
    real = StudyDir.cover_runs

    def counting(folder: StudyDir, names: list[str]) -> None:
        covered.append(len(names))
        real(folder, names)

    monkeypatch.setattr(StudyDir, "cover_runs", counting)
    prepared = prepare(spec_of(methods=("zero_shot", "lora"), seeds=12), tmp_path)
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            carry_out(prepared, executor_for(prepared, interrupt_at="lora-s9"))
    else:
        carry_out(prepared, executor_for(prepared))
    assert [count for count in covered if count][:4] == [1, 1, 2, 4]
    listed = {name.split("/")[1] for name in StudyDir(tmp_path).covered.files if name.startswith("runs/")}
    assert len(listed) == (10 if interrupted else 13)


def test_a_study_folder_holds_what_a_reader_needs(spec_of: SpecOf, tmp_path: Path, tiny_data: dict[str, Path]) -> None:
    outside = tmp_path / "api.jsonl"
    rows = [json.loads(line) for line in tiny_data["test"].read_text().splitlines()]
    outside.write_text("".join(json.dumps({"id": row["id"], "text": "outside"}) + "\n" for row in rows))
    spec = spec_of(predictions={"api": str(outside)})
    prepared = prepare(spec, tmp_path / "study")
    done = carry_out(prepared, executor_for(prepared))
    stored = StudyDir(tmp_path / "study").load()
    assert stored.spec == spec.without_paths()
    assert stored.plan.runs == tuple(run.folder for run in prepared.plan.runs)
    assert (stored.plan.data, stored.plan.models) == (prepared.inputs.hashes.data, prepared.inputs.hashes.models)
    assert sorted(path.name for path in (tmp_path / "study" / "runs").iterdir()) == sorted(stored.plan.runs)
    assert stored.data.counts == {"train": 24, "validation": 8, "test": 8}
    assert [document.id for document in stored.documents] == [row["id"] for row in rows]
    assert set(stored.baselines) == {"LEAD-1", "LEAD-3", "oracle-1"}
    assert [row.text for row in stored.outside["api"]] == ["outside"] * 8
    assert stored.records == done.records
    for path in (tmp_path / "study").glob("*.json"):
        assert str(tiny_data["train"].parent) not in path.read_text(encoding="utf-8")


def test_the_same_study_again_does_nothing(spec_of: SpecOf, tmp_path: Path) -> None:
    first = prepare(spec_of(trials=2), tmp_path)
    carry_out(first, executor_for(first))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = prepare(spec_of(trials=2), tmp_path)
    assert again.missing == ()
    executor = executor_for(again)
    assert carry_out(again, executor).complete
    assert executor.names == []
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_runs_that_are_stored_under_an_earlier_name_count(
    spec_of: SpecOf, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    """With a second model, names get a prefix. The folder of a run keeps its name, and `plan.json` names the folder."""
    first = prepare(spec_of(methods=("lora",)), tmp_path)
    carry_out(first, executor_for(first))
    [there] = [path.name for path in (tmp_path / "runs").iterdir()]
    models = (*spec_of().models, ModelSpec(name=str(tiny_model("llama"))))
    second = prepare(spec_of(methods=("lora",), models=models), tmp_path)
    executor = executor_for(second)
    done = carry_out(second, executor)
    assert len(executor.names) == 1
    assert len(done.runs) == 2
    plan = StudyDir(tmp_path).read_plan()
    assert plan is not None
    assert plan.runs is not None
    assert there in plan.runs
    assert set(plan.runs) == {path.name for path in (tmp_path / "runs").iterdir()}


def test_a_run_that_failed_is_repeated_next_time_and_not_at_once(spec_of: SpecOf, tmp_path: Path) -> None:
    spec = spec_of(methods=("zero_shot", "lora"))
    first = prepare(spec, tmp_path)
    executor = executor_for(first, status=failing("lora-s0"))
    done = carry_out(first, executor)
    assert executor.names == ["zero_shot-s0", "lora-s0"]
    assert [record.status for record in done.records] == ["failed", "finished"]
    assert done.complete  # a run that failed is not missing
    again = prepare(spec, tmp_path)
    executor = executor_for(again)
    carry_out(again, executor)
    assert executor.names == ["lora-s0"]


@pytest.mark.parametrize(("status", "complete"), [("failed", True), ("diverged", True), ("interrupted", False)])
def test_trials_that_do_not_end_leave_the_study_incomplete(
    spec_of: SpecOf, tmp_path: Path, status: Status, complete: bool
) -> None:
    prepared = prepare(spec_of(methods=("lora",), trials=2), tmp_path)
    executor = executor_for(prepared, status=failing("lora-trial2", status))
    assert carry_out(prepared, executor).complete == complete
    assert StudyDir(tmp_path).load().complete == complete
    assert ("lora-s0" in executor.names) == complete


def test_a_damaged_record_is_repeated(spec_of: SpecOf, tmp_path: Path) -> None:
    spec = spec_of(methods=("zero_shot", "lora"))
    first = prepare(spec, tmp_path)
    carry_out(first, executor_for(first))
    [folder] = (tmp_path / "runs").glob("lora-*")
    (folder / "record.json").write_text("{")
    again = prepare(spec, tmp_path)
    executor = executor_for(again)
    with pytest.warns(UserWarning, match=r"runs/lora-s0-\w+: record\.json is damaged; the run is now damaged/lora-s0"):
        done = carry_out(again, executor)
    assert len(done.runs) == 2
    assert executor.names == ["lora-s0"]
    assert [path.read_text() for path in tmp_path.glob("damaged/*/record.json")] == ["{"]


def test_runs_of_an_earlier_choice_stay_and_do_not_belong_to_the_study(spec_of: SpecOf, tmp_path: Path) -> None:
    first = prepare(spec_of(methods=("zero_shot", "lora")), tmp_path)
    carry_out(first, executor_for(first))
    second = prepare(spec_of(methods=("zero_shot",)), tmp_path)
    done = carry_out(second, executor_for(second))
    assert [record.spec.method.name for record in done.records] == ["zero_shot"]
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_timing_runs_follow_concurrent_runs(spec_of: SpecOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(methods=("zero_shot", "lora"), seeds=2)
    prepared = prepare(spec, tmp_path)
    alone = executor_for(prepared)
    monkeypatch.setattr(runner, "LocalExecutor", lambda: alone)
    done = carry_out(prepared, executor_for(prepared, processes=2))
    assert alone.names == ["zero_shot-timing", "lora-timing"]
    assert Counter(record.spec.role for record in done.records) == {"final": 3, "timing": 2}
    again = prepare(spec, tmp_path)
    done = carry_out(again, executor_for(again))
    assert alone.names == ["zero_shot-timing", "lora-timing"]  # they are done
    assert len(done.runs) == 5


def texts_in(folder: Path) -> list[Path]:
    """Files that hold a generated text, or a word of a document."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(words in path.read_text(errors="replace") for words in (TEXT, DOCUMENT))]


def test_no_texts_leaves_no_text_anywhere(spec_of: SpecOf, tmp_path: Path) -> None:
    prepared = prepare(spec_of(), tmp_path / "with")
    carry_out(prepared, executor_for(prepared))
    assert {path.name for path in texts_in(tmp_path / "with")} >= {
        "documents.jsonl", "predictions.jsonl", "prompt.json", "LEAD-1.jsonl",
    }  # fmt: skip
    prepared = prepare(spec_of(), tmp_path / "without")
    done = carry_out(prepared, executor_for(prepared), keep_texts=False)
    assert texts_in(tmp_path / "without") == []
    for run in done.runs:  # nor in memory
        assert [row.text for row in run.predictions] == [""] * 8
        assert {row.scores["rouge1"] for row in run.predictions} == {10.0}
    assert {document.group for document in done.documents} != {""}


@pytest.mark.parametrize("name", ["few_shot-s0", "lora-s0"])
def test_no_texts_holds_for_an_interrupted_study(spec_of: SpecOf, tmp_path: Path, name: str) -> None:
    """The run that ended with the interrupt was not yielded; its texts are withheld all the same."""
    prepared = prepare(spec_of(), tmp_path)
    executor = executor_for(prepared, interrupt_at=name)
    with pytest.raises(KeyboardInterrupt):
        carry_out(prepared, executor, keep_texts=False)
    assert texts_in(tmp_path) == []
    [folder] = (tmp_path / "runs").glob(f"{name}-*")
    assert len(RunDir(folder).read_predictions()) == 8


def test_sigterm_between_two_rounds_ends_a_study_as_an_interrupt_does(
    spec_of: SpecOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the next runs are planned no executor is at work, and texts are withheld all the same."""
    prepared = prepare(spec_of(methods=("lora",), trials=1), tmp_path)
    real = StudyDir.write_plan

    def write_plan(folder: StudyDir, plan: PlanFile) -> None:
        real(folder, plan)
        if any("lora-s0" in name for name in plan.runs or ()):
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(StudyDir, "write_plan", write_plan)
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("the signal would have killed the process"))
    try:
        with pytest.raises(SystemExit):
            carry_out(prepared, executor_for(prepared), keep_texts=False)
    finally:
        signal.signal(signal.SIGTERM, before)
    search = StudyDir(tmp_path).read_search()
    assert search is not None
    assert search.cells[0].chosen is not None
    assert not StudyDir(tmp_path).load().complete  # the final run is missing


def test_an_interrupted_search_is_stored_with_what_was_interrupted(spec_of: SpecOf, tmp_path: Path) -> None:
    prepared = prepare(spec_of(methods=("lora",), trials=3), tmp_path)
    executor = executor_for(prepared, status=failing("lora-trial2", "interrupted"), interrupt_at="lora-trial2")
    with pytest.raises(KeyboardInterrupt):
        carry_out(prepared, executor)
    search = StudyDir(tmp_path).read_search()
    assert search is not None
    assert [trial.status for trial in search.cells[0].trials] == ["finished", "interrupted", "to do"]


def test_an_interrupted_study_continues(spec_of: SpecOf, tmp_path: Path) -> None:
    spec = spec_of(methods=("lora",), trials=3)
    whole = prepare(spec, tmp_path / "whole")
    order = executor_for(whole)
    carry_out(whole, order)
    for number, name in enumerate(order.names):
        folder = tmp_path / str(number)
        prepared = prepare(spec, folder)
        executor = executor_for(prepared, status=failing(name, "interrupted"), interrupt_at=name)
        with pytest.raises(KeyboardInterrupt):
            carry_out(prepared, executor)
        again = prepare(spec, folder)
        executor = executor_for(again)
        done = carry_out(again, executor)
        assert executor.names == order.names[number:]
        assert done.records == StudyDir(tmp_path / "whole").load().records


def test_runs_that_another_process_did_meanwhile_are_not_repeated(spec_of: SpecOf, tmp_path: Path) -> None:
    late = prepare(spec_of(), tmp_path)
    early = prepare(spec_of(), tmp_path)
    carry_out(early, executor_for(early))
    executor = executor_for(late)
    assert len(carry_out(late, executor).runs) == 3
    assert executor.names == []


def test_a_locked_folder_is_refused(spec_of: SpecOf, tmp_path: Path) -> None:
    prepared = prepare(spec_of(), tmp_path)
    with StudyDir(tmp_path).lock(), pytest.raises(UserError, match="is working in this folder"):
        carry_out(prepared, executor_for(prepared))


def test_records_and_predictions_are_read_at_most_once(
    spec_of: SpecOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a study with trials, fractions, a failed run and withheld texts that continues in its folder."""
    spec = spec_of(trials=2, seeds=2, fractions=(0.5, 1.0))
    first = prepare(spec, tmp_path)
    carry_out(first, executor_for(first, status=failing("lora-s1")))
    read: Counter[str] = Counter()

    def counted_record(folder: RunDir, real: Callable[[RunDir], Record] = RunDir.read_record) -> Record:
        read[f"{folder.name}/record.json"] += 1
        return real(folder)

    def counted_predictions(
        folder: RunDir, real: Callable[[RunDir], list[Prediction]] = RunDir.read_predictions
    ) -> list[Prediction]:
        read[f"{folder.name}/predictions.jsonl"] += 1
        return real(folder)

    monkeypatch.setattr(RunDir, "read_record", counted_record)
    monkeypatch.setattr(RunDir, "read_predictions", counted_predictions)
    again = prepare(spec, tmp_path)
    done = carry_out(again, executor_for(again), keep_texts=False)
    for run in done.runs:  # as the summary does
        assert run.outputs is run.outputs
    assert read
    # Texts are read once to withhold them and once for the scores, because a study keeps no texts in memory.
    assert max(number for name, number in read.items() if "record" in name) == 1, read.most_common(3)
    assert max(read.values()) == 2, read.most_common(3)


def test_stored_runs_of_one_id_are_one_run(spec_of: SpecOf, tmp_path: Path) -> None:
    """The same run in two folders: the one that ended counts."""
    prepared = prepare(spec_of(methods=("zero_shot",)), tmp_path)
    carry_out(prepared, executor_for(prepared))
    [run] = StudyDir(tmp_path).read_runs()
    failed = StoredRun(StudyDir(tmp_path).run_dir("other"), run.record.model_copy(update={"status": "failed"}))
    for runs in ((run, failed), (failed, run)):
        assert runner.stored_by_id(runs) == {run.record.run_id: run}
        assert runner.completed_by_id(runs) == {run.record.run_id: run.record}


# What is refused


@pytest.mark.parametrize("workers", [0, -1, 100_000])
def test_impossible_numbers_of_workers_are_refused(spec_of: SpecOf, tmp_path: Path, workers: int) -> None:
    with pytest.raises(UserError, match=f"--workers {workers}: a number from 1 to"):
        prepare(spec_of(), tmp_path, Limits(workers=workers))


def test_workers_share_the_processors(spec_of: SpecOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "usable_cores", lambda: 5)
    assert prepare(spec_of(), tmp_path, Limits(workers=2)).layout == Layout(2, 2)
    monkeypatch.setattr(concurrency, "choose", lambda runs, *_: Layout(runs, 1))
    assert prepare(spec_of(), tmp_path, Limits(workers=None)).layout == Layout(3, 1)  # as many as runs are missing


@pytest.mark.parametrize(
    "settings",
    [
        {"methods": ("lora",), "train": TrainSpec(max_steps=8, min_steps=8)},
        {"methods": ("zero_shot",), "train": TrainSpec(max_steps=12, min_steps=12)},
    ],
)
def test_pruning_without_a_trial_that_can_be_pruned_is_refused(
    spec_of: SpecOf, tmp_path: Path, settings: dict[str, object]
) -> None:
    with pytest.raises(UserError, match="--halving: no trial of this study can be pruned"):
        prepare(spec_of(trials=3, halving=True, **settings), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_instruction_without_room_is_refused_before_anything_is_written(spec_of: SpecOf, tmp_path: Path) -> None:
    prepared = prepare(spec_of(prompt=PromptSpec(max_length=8)), tmp_path / "study")
    with pytest.raises(UserError, match="--max-length"):
        carry_out(prepared, executor_for(prepared))
    assert not (tmp_path / "study").exists()


def test_a_folder_that_belongs_to_another_study_is_refused(spec_of: SpecOf, tmp_path: Path) -> None:
    first = prepare(spec_of(), tmp_path)
    carry_out(first, executor_for(first))
    with pytest.raises(UserError, match="belongs to a different study"):
        prepare(spec_of(train=TrainSpec(epochs=2)), tmp_path)


def test_keep_earlier_repeats_nothing_that_an_earlier_version_finished(
    spec_of: SpecOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(methods=("zero_shot", "lora"))
    first = prepare(spec, tmp_path)
    carry_out(first, executor_for(first, status=failing("lora-s0")))
    from tuneoff.study import compatibility, run_id

    for module in (compatibility, run_id):
        monkeypatch.setattr(module, "NUMERICS_VERSION", NUMERICS_VERSION + 1)
    with pytest.raises(UserError, match="--keep-earlier"):
        prepare(spec, tmp_path)
    kept = prepare(spec, tmp_path, keep_earlier=True)
    assert [run.name for run in kept.missing] == ["lora-s0"]
    done = carry_out(kept, executor_for(kept))
    assert len(done.runs) == 2
    assert prepare(spec, tmp_path).missing == ()  # the choice is remembered
    shutil.rmtree(tmp_path / "runs")
    assert len(prepare(spec, tmp_path).missing) == 2


def test_all_runs_of_a_study_have_one_number_format(
    spec_of: SpecOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decided at the start of the study, kept in its plan, and passed to every run."""
    asked: list[str | None] = []
    monkeypatch.setattr(runner, "decide_number_format", lambda *_: "bf16")

    def remember(job: Job) -> Status:
        asked.append(job.number_format)
        return "interrupted" if len(asked) == 2 else "finished"

    first = prepare(spec_of(trials=1), tmp_path)
    carry_out(first, executor_for(first, status=remember))
    plan = StudyDir(tmp_path).read_plan()
    assert plan is not None
    assert plan.number_format == "bf16"
    monkeypatch.setattr(runner, "decide_number_format", lambda _study, plan, _records: plan.number_format)
    again = prepare(spec_of(trials=1), tmp_path)
    carry_out(again, executor_for(again, status=remember))
    assert len(asked) > 9
    assert set(asked) == {"bf16"}
    complete = prepare(spec_of(trials=1), tmp_path)
    monkeypatch.setattr(runner, "decide_number_format", lambda *_: pytest.fail("nothing is left to compute"))
    carry_out(complete, executor_for(complete))
    assert StudyDir(tmp_path).read_plan() == plan.model_copy(update={"runs": StudyDir(tmp_path).load().plan.runs})


@pytest.fixture
def data_of_80(tmp_path: Path, tiny_data: dict[str, Path]) -> DataSpec:
    """80 test documents."""
    test = tmp_path / "test80.jsonl"
    test.write_text("".join(json.dumps(example_row(1000 + index)) + "\n" for index in range(80)))
    files = {f"{split}_file": str(path) for split, path in tiny_data.items()}
    return DataSpec.model_validate({**files, "test_file": str(test)})


@pytest.fixture
def slow_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe that finds a slow machine. The fake runs take no time at all."""
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))

    def speeds(study: StudySpec, *_: object) -> Speeds:
        return {
            (model.name, name): Speed(start=10, step=5, check=1, write=2)
            for model in study.models
            for name in study.methods
        }

    monkeypatch.setattr(speed_probe, "measure_speeds", speeds)


@pytest.mark.usefixtures("slow_probe")
@pytest.mark.parametrize("kind", [FakeExecutor, EagerExecutor])
def test_a_plan_is_corrected_while_the_study_runs(
    spec_of: SpecOf, data_of_80: DataSpec, tmp_path: Path, kind: type[FakeExecutor]
) -> None:
    """The first run shows that the machine is fast: seeds are added, and as many documents as that run has."""
    spec, limits = spec_of(methods=("zero_shot", "lora"), seeds=3, data=data_of_80), Limits(budget_seconds=300.0)
    prepared = prepare(spec, tmp_path / "out", limits)
    assert prepared.spec.seeds == 1
    [documents] = prepared.spec.scored_documents
    assert 30 < documents < 80
    executor = kind([example.id for example in prepared.inputs.dataset.test])
    done = carry_out(prepared, executor)
    assert executor.names == ["lora-s0", "zero_shot-s0", "lora-s1", "lora-s2"]
    assert done.complete
    assert done.spec is not None
    assert (done.spec.seeds, done.spec.scored_documents) == (3, (documents,))
    assert isinstance(done.budget, BudgetFile)
    assert done.budget.corrections == ("after 1 run: seeds 1 -> 3",)
    assert done.budget.settings == ReducedSettings.of(done.spec)
    assert len(done.documents) == documents
    assert {record.spec.scored_documents for record in done.records} == {documents}
    again = prepare(spec, tmp_path / "out", limits)
    assert (again.missing, again.spec.seeds) == ((), 3)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.json")}
    assert carry_out(again, executor_for(again)).complete
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.json")} == before


@pytest.mark.usefixtures("slow_probe")
def test_a_corrected_study_that_is_killed_goes_on_with_its_corrected_plan(
    spec_of: SpecOf, data_of_80: DataSpec, tmp_path: Path
) -> None:
    spec, limits = spec_of(methods=("zero_shot", "lora"), seeds=3, data=data_of_80), Limits(budget_seconds=300.0)
    first = prepare(spec, tmp_path / "out", limits)
    with pytest.raises(KeyboardInterrupt):
        carry_out(first, executor_for(first, interrupt_at="zero_shot-s0"))
    folder = StudyDir(tmp_path / "out")
    file = folder.read_budget()
    assert file is not None
    assert file.corrections == ("after 1 run: seeds 1 -> 3",)
    again = prepare(spec, tmp_path / "out", limits)
    assert again.spec.seeds == 3
    executor = executor_for(again)
    done = carry_out(again, executor)
    assert executor.names == ["lora-s1", "lora-s2"]
    assert done.complete
    assert len(done.records) == 4


@pytest.mark.usefixtures("slow_probe")
def test_a_study_that_is_late_scores_fewer_documents_in_runs_to_come(
    spec_of: SpecOf, data_of_80: DataSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that are done keep their texts and are not repeated, and their documents stay in the folder."""
    now = [1000.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    spec, limits = spec_of(methods=("zero_shot", "few_shot", "lora"), data=data_of_80), Limits(budget_seconds=400.0)
    prepared = prepare(spec, tmp_path / "out", limits)
    [documents] = prepared.spec.scored_documents
    stamp = "2026-01-01T00:0{}:00+00:00"

    class Late(FakeExecutor):
        def _carry_out(self, job: Job) -> Record:
            now[0] += 180.0
            record = super()._carry_out(job)
            late = record.model_copy(update={"started_at": stamp.format(0), "finished_at": stamp.format(3)})
            job.dir.write_record(late)
            return late

    executor = Late([example.id for example in prepared.inputs.dataset.test])
    done = carry_out(prepared, executor)
    assert executor.names == ["lora-s0", "zero_shot-s0", "few_shot-s0"]
    scored = {record.name: record.spec.scored_documents for record in done.records}
    least = math.ceil(documents / 2)  # the first run has up to twice as many as planned
    assert 15 < least <= 30
    assert scored == {"lora-s0": documents, "zero_shot-s0": least, "few_shot-s0": least}
    assert len(done.documents) == documents
    assert done.complete
    assert isinstance(done.budget, BudgetFile)
    assert done.budget.corrections == (f"after 1 run: test documents {documents} -> {least}",)
    assert done.budget.spent_seconds == 540
    again = prepare(spec, tmp_path / "out", limits)
    assert again.missing == ()


# ---- who works ---------------------------------------------------------------------------------------------------


class Listener(SilentObserver):
    """Keeps what is said, and who works. `awaited`: words after which the runs go on."""

    def __init__(self, awaited: str = "") -> None:
        self.said: list[str] = []
        self.teams: list[Team] = []
        self.heard, self._awaited = threading.Event(), awaited

    def event(self, job: Job, event: Event) -> None:
        if isinstance(event, Note):
            self.said.append(f"{job.name}: {event.text}")
            if self._awaited in event.text:
                self.heard.set()

    def team(self, team: Team) -> None:
        self.teams.append(team)


class Team7(FakeExecutor):
    """Its first run works until the observer has heard what it waits for. Another machine does the second one."""

    states: Sequence[WorkerState] = ("working", "silent", "silent", "lost", "lost")

    def __init__(self, ids: Sequence[str], listener: Listener) -> None:
        super().__init__(ids)
        self._listener, self._looks = listener, iter([*self.states, *[self.states[-1]] * 10**6])
        self._elsewhere = ""

    def capacity(self) -> int:
        return 2

    def health(self) -> list[Worker]:
        state = next(self._looks)
        return [*super().health(), Worker("node7\x1b:1", self._elsewhere, 9.0, 70.0, state)]

    def run(self, jobs: Sequence[Job], observer: Observer) -> Iterator[StoredRun]:
        self._elsewhere = jobs[1].dir.name
        runs = super().run(jobs, observer)
        assert self._listener.heard.wait(20)
        yield from runs


def test_whoever_shows_no_sign_of_life_is_reported_once(
    spec_of: SpecOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while `run` waits and no run reports anything."""
    monkeypatch.setattr(runner, "_TEAM_SECONDS", 0.01)
    prepared = prepare(spec_of(methods=("zero_shot", "few_shot")), tmp_path / "study")
    listener = Listener("counts as lost")
    executor = Team7([example.id for example in prepared.inputs.dataset.test], listener)
    study = runner.carry_out_study(prepared, executor, listener)
    assert study.complete
    silent = "few_shot-s0: node7?:1 has shown no sign of life for 1 min 10 s"
    assert listener.said == [silent, f"{silent} and counts as lost; the next free worker goes on with it"]
    assert {team.capacity for team in listener.teams} == {2}
    assert listener.teams[0].workers[-1].state in ("working", "silent")
    assert not [thread for thread in threading.enumerate() if "watch" in thread.name]


def test_one_worker_of_this_machine_is_not_watched(
    spec_of: SpecOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_TEAM_SECONDS", 0.0)
    prepared, listener = prepare(spec_of(methods=("zero_shot",)), tmp_path / "study"), Listener()
    asked: list[int] = []

    class Alone(FakeExecutor):
        def health(self) -> list[Worker]:
            asked.append(1)
            return super().health()

    ids = [example.id for example in prepared.inputs.dataset.test]
    assert runner.carry_out_study(prepared, Alone(ids), listener).complete
    assert listener.teams == []
    assert len(asked) == 1


class Foreign:
    """An executor of another package, from before there were `capacity` and `health`."""

    def __init__(self, inner: FakeExecutor) -> None:
        self._inner = inner

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def run(self, jobs: Sequence[Job], observer: Observer) -> Iterator[StoredRun]:
        return self._inner.run(jobs, observer)


@pytest.mark.parametrize("shared", [False, True])
def test_an_executor_that_does_not_say_who_works_carries_out_a_study(
    shared: bool, spec_of: SpecOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_TEAM_SECONDS", 0.001)
    prepared, listener = prepare(spec_of(), tmp_path / "study"), Listener()
    foreign = Foreign(executor_for(prepared))
    assert runner.carry_out_study(prepared, foreign, listener, shared=shared).complete  # type: ignore[arg-type]
    assert listener.said == []
    assert set(listener.teams) <= {Team()}


def test_an_executor_that_fails_to_say_who_works_carries_out_a_study(spec_of: SpecOf, tmp_path: Path) -> None:
    class Faulty(Team7):
        def health(self) -> list[Worker]:
            raise ZeroDivisionError("no cluster")

    prepared, listener = prepare(spec_of(), tmp_path / "study"), Listener("cannot be shown")
    faulty = Faulty([example.id for example in prepared.inputs.dataset.test], listener)
    assert runner.carry_out_study(prepared, faulty, listener).complete
    assert [words.partition(": ")[2] for words in listener.said] == [
        "who works cannot be shown: ZeroDivisionError: no cluster"
    ]
