"""The summary of a study: rows with scores and costs, and every part of what was found."""

import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support.verdict_study import add_run, edit_record, edit_spec, load, run_dirs, study_folder, write_spec
from tuneoff.results.manifest import MANIFEST
from tuneoff.results.run_dir import RunDir
from tuneoff.results.run_record import Prediction, TrainPoint
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import BudgetFile, DataFile, PlanFile, ReducedSettings, SearchCell, SearchFile
from tuneoff.results.summary import BudgetReport, Summary
from tuneoff.spec import GenerateSpec
from tuneoff.verdict.judge import judge_study
from tuneoff.verdict.selection import find_model_to_use
from tuneoff.verdict.summarize import summarize

METHODS = ["zero_shot", "lora", "full"]


def summary_of(study: Path) -> Summary:
    return summarize(load(study))


def test_rows_have_scores_costs_and_gains_of_the_verdict(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    summary, [judged] = summary_of(study), judge_study(load(study))
    assert [row.name for row in summary.rows] == METHODS
    assert summary.verdicts == (judged.verdict,)
    means = {result.method: result.mean for result in judged.verdict.methods}
    for row in summary.rows:
        score = row.score("rouge1")
        assert score.mean == pytest.approx(means[row.name])
        assert score.mean is not None
        assert score.low is not None
        assert score.high is not None
        assert score.low < score.mean < score.high
        assert row.costs == judged.scores.costs[row.name]
    zero_shot, lora, _ = summary.rows
    assert (zero_shot.seeds, lora.seeds, lora.status) == (1, 2, {"finished": 2})
    assert zero_shot.gain is None
    pair = next(pair for pair in judged.verdict.pairs if {pair.first, pair.second} == {"lora", "zero_shot"})
    assert lora.gain is not None
    assert lora.gain.mean == pytest.approx(abs(pair.difference))
    assert summary.winner == find_model_to_use(load(study))


@pytest.mark.parametrize("difference", ["a seed without a result", "documents that only some runs scored"])
def test_rows_have_the_means_of_the_verdict_where_runs_differ(tmp_path: Path, difference: str) -> None:
    """Else the table could name another method the best than the answer above it."""
    study = study_folder(tmp_path)
    names = [row.id for row in StudyDir(study).read_documents()]
    if difference == "a seed without a result":
        add_run(study, "lora", 2, dict.fromkeys(names, 90.0))
    else:
        run = next(one for one in run_dirs(study) if one.name.endswith("lora-s1"))
        scored = {row.id: row.scores["rouge1"] for row in run.read_predictions()}
        shutil.rmtree(run.path)
        add_run(study, "lora", 1, {name: scored[name] for name in names[: len(names) // 2]})
    StudyDir(study).write_baselines(
        {"LEAD-1": [Prediction(id=name, text="x", scores={"rouge1": 1.0 + ("-b" in name)}) for name in names]}
    )
    summary, [judged] = summary_of(study), judge_study(load(study))
    means = {result.method: result.mean for result in judged.verdict.methods}
    methods = [row for row in summary.rows if row.kind == "method"]
    assert {row.name: row.score("rouge1").mean for row in methods} == pytest.approx(means)
    assert all(row.score("rouge1").low < means[row.name] < row.score("rouge1").high for row in methods)  # type: ignore[operator]
    more = difference == "a seed without a result"
    assert [(row.name, row.seeds, row.compared_seeds, row.compared_runs) for row in methods] == [
        ("zero_shot", 1, 1, 1),
        ("lora", 3 if more else 2, 2, 2),
        ("full", 2, 2, 2),
    ]
    assert summary.rows[-1].name == "LEAD-1"
    assert summary.rows[-1].score("rouge1").mean == pytest.approx(1.5)


def test_a_study_of_more_than_may_be_asked_for_today_is_summarized(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    for folder in run_dirs(study):
        edit_spec(folder, generate=GenerateSpec(num_beams=100, batch_size=5000))
    write_spec(study, methods=METHODS, seeds=1001, generate={"num_beams": 100})
    assert [row.name for row in summary_of(study).rows] == METHODS


def test_a_summary_is_pure_and_comes_back_from_disk(
    tmp_path: Path, file_times: Callable[[Path], dict[str, int]]
) -> None:
    study = study_folder(tmp_path)
    before = file_times(study)
    summary = summary_of(study)
    assert file_times(study) == before
    assert summary_of(study) == summary
    StudyDir(study).write_summary(summary)
    assert Summary.model_validate_json((study / "summary.json").read_bytes()) == summary


def test_it_was_made_when_the_last_run_finished(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    assert summary_of(study).created_at == "2026-01-01T00:00:00+00:00"  # the start: no run has an end
    edit_record(run_dirs(study)[0], finished_at="2025-12-01T00:00:00+00:00")
    assert summary_of(study).created_at == "2025-12-01T00:00:00+00:00"


def test_baselines_and_outside_systems_are_rows_without_costs(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    rows = [Prediction(id=name, text="", scores={"rouge1": 50.0}) for name in load(study).groups]
    StudyDir(study).write_baselines({"LEAD-1": rows, "unknown": rows})
    StudyDir(study).write_outside({"api": rows, "gone": rows})
    write_spec(study, methods=METHODS, seeds=2, predictions={"api": "api.jsonl"})
    others = [row for row in summary_of(study).rows if row.kind != "method"]
    assert [(row.name, row.kind, row.costs, row.gain) for row in others] == [
        ("LEAD-1", "extractive", {}, None),
        ("api", "outside", {}, None),
    ]
    assert others[0].score("rouge1").mean == 50


def test_a_method_whose_runs_failed_has_a_row_and_a_failure(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    failed = add_run(study, "soft_prompt", 0, {}, status="diverged")
    trial = add_run(study, "lora", 9, {}, status="diverged")
    edit_spec(trial, role="trial")  # a trial may diverge
    summary = summary_of(study)
    row = next(row for row in summary.rows if row.name == "soft_prompt")
    assert (row.status, row.scores, row.costs, row.validation_loss) == ({"diverged": 1}, {}, {}, None)
    assert (row.seeds, row.compared_seeds, row.compared_runs) == (1, 0, 0)
    assert [(failure.run, failure.message) for failure in summary.failures] == [(failed.name, "loss is not finite")]


def test_a_study_without_runs_has_an_empty_summary(tmp_path: Path) -> None:
    write_spec(tmp_path, name="mine")
    summary = summary_of(tmp_path)
    assert (summary.name, summary.rows, summary.verdicts, summary.winner) == ("mine", (), (), None)
    assert summary.sentences == ()


def test_runs_outside_the_plan_are_not_summarized(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    names = tuple(folder.name for folder in run_dirs(study) if "full" not in folder.name)
    StudyDir(study).write_plan(PlanFile(runs=names))
    assert [row.name for row in summary_of(study).rows] == ["zero_shot", "lora"]


def test_several_models_have_their_rows_and_verdicts(tmp_path: Path) -> None:
    summary = summary_of(study_folder(tmp_path, models=("a/x", "b/y")))
    assert [(row.model, row.name) for row in summary.rows] == [(m, name) for m in ("a/x", "b/y") for name in METHODS]
    assert [verdict.block for verdict in summary.verdicts] == ["a/x", "b/y"]
    assert summary.sentences[0].startswith("a/x: ")


def test_smaller_fractions_are_diagnosed_and_judged_too(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    for folder in run_dirs(study):
        if "zero_shot" not in folder.name:
            copy = RunDir(folder.path.with_name(f"{folder.name}-tenth"))
            shutil.copytree(folder.path, copy.path)
            edit_spec(copy, fraction=0.1)
    claim = {"text": "better", "kind": "better", "methods": ["zero_shot", "lora"], "fraction": 0.1}
    write_spec(study, methods=METHODS, seeds=2, claims=[claim], fractions=[0.1, 1])
    StudyDir(study).write_data(DataFile(counts={"train": 1000}))
    still = StudyDir(study).run_dir("starter-lora-s0-tenth")
    points = (TrainPoint(step=1, epoch=1, seconds=0, loss=1, learning_rate=1, grad_norm=0, tokens=1),)
    curve = still.read_record().curve.model_copy(update={"train": points})
    edit_record(still, name="lora-f0.1-s0", curve=curve)
    summary = summary_of(study)
    assert [(finding.check, finding.where) for finding in summary.diagnostics] == [("no training", "lora-f0.1-s0")]
    assert [judged.outcome for judged in summary.claims] == ["contradicted"]
    assert len(summary.data_sizes) == 1
    assert {row.name for row in summary.rows} == set(METHODS), "rows are of all the data"


def test_a_method_whose_seeds_differ_far_more_is_a_finding(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    ids = [row.id for row in run_dirs(study)[0].read_predictions()]
    rng = np.random.default_rng(2)
    for method in ("dora", "rslora", "soft_prompt"):
        for seed in range(2):
            lost = 25.0 if (method, seed) == ("soft_prompt", 1) else 0.0
            values = 40 - lost + rng.normal(0, 4, len(ids))
            add_run(study, method, seed, dict(zip(ids, values.tolist(), strict=True)))
    [found] = [finding for finding in summary_of(study).diagnostics if finding.check == "seeds"]
    assert found.where == "soft_prompt"
    assert found.message.startswith("seeds differ far more than those of the other methods (standard deviation 17.")


def test_concurrent_runs_are_noted_with_their_costs(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    for folder in run_dirs(study):
        resources = folder.read_record().resources
        assert resources is not None
        edit_record(folder, resources=resources.model_copy(update={"processes": 2}))
    timing = add_run(study, "lora", 9, {}, seconds=5.0)
    edit_spec(timing, role="timing")
    notes = {row.name: row.notes for row in summary_of(study).rows}
    assert notes["full"] == ("time, energy and training speed were measured with 2 concurrent runs",)
    assert notes["lora"] == ("2 concurrent runs; time, energy and training speed are those of a timing run alone",)


def test_a_search_of_an_earlier_choice_is_ignored(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    cell = SearchCell(model="starter", method="lora", hyperparameter="r", chosen=8, on_edge=True)
    StudyDir(study).write_search(SearchFile(cells=(cell,)))
    write_spec(study, methods=METHODS, seeds=2)
    assert summary_of(study).search is None
    write_spec(study, methods=METHODS, seeds=2, trials=2)
    summary = summary_of(study)
    assert summary.search == SearchFile(cells=(cell,))
    assert [finding.check for finding in summary.diagnostics] == ["search edge"]


def write_budget(study: Path, **changes: object) -> None:
    """The plan of the study in the folder; `changes` to its settings make it another one."""
    spec = load(study).spec
    assert spec is not None
    settings = {
        "max_validation_documents": spec.data.max_validation_documents,
        "max_test_documents": spec.data.max_test_documents,
        "trials": spec.trials,
        "fractions": spec.fractions,
        "max_steps": spec.train.max_steps,
        "min_steps": spec.train.min_steps,
        "step_floor": spec.step_floor,
        "seeds": spec.seeds,
        "steps": spec.steps,
    }
    StudyDir(study).write_budget(
        BudgetFile(
            asked="x",
            budget_seconds=1200.0,
            seconds=1100.0,
            fits=True,
            given_up=("trials 4 -> 2", "seeds 3 -> 2"),
            settings=ReducedSettings.model_validate({**settings, **changes}),
        )
    )


def report_of(study: Path) -> BudgetReport:
    report = summary_of(study).budget
    assert report is not None
    return report


def test_the_budget_reports_what_was_reduced(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    write_spec(study, methods=METHODS, seeds=2)
    assert summary_of(study).budget is None
    write_budget(study)
    report = report_of(study)
    assert (report.budget_seconds, report.planned_seconds, report.took_seconds) == (1200, 1100, None)
    assert report.reduced == ("trials 4 -> 2", "seeds 3 -> 2")
    assert report.fits
    assert report.problem is None


def test_the_time_taken_counts_concurrent_runs_once_and_no_pauses(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    write_spec(study, methods=METHODS, seeds=2)
    write_budget(study)
    spans = (
        ("2026-01-01T00:00:00+00:00", "2026-01-01T00:01:00+00:00"),
        ("2026-01-01T00:00:30+00:00", "2026-01-01T00:00:40+00:00"),  # during the first
        ("2026-01-01T00:00:50+00:00", "2026-01-01T00:01:30+00:00"),  # ends after it
        ("2026-01-02T02:00:00+02:00", "2026-01-02T00:00:10"),  # another day, another time zone
        ("2026-01-03T00:00:00+00:00", None),
    )
    for folder, (start, end) in zip(run_dirs(study), spans, strict=True):
        edit_record(folder, started_at=start, finished_at=end)
    assert report_of(study).took_seconds == 100
    edit_record(run_dirs(study)[0], started_at="<b>")
    assert report_of(study).took_seconds is None


@pytest.mark.parametrize("content", [b"", b"{", b"7", b"[]", b"\xff\xfe", b'{"asked": "x"}', b"[" * 100_000])
def test_a_damaged_budget_is_a_problem(tmp_path: Path, content: bytes) -> None:
    study = study_folder(tmp_path)
    write_spec(study, methods=METHODS, seeds=2)
    (study / "budget.json").write_bytes(content)
    assert report_of(study) == BudgetReport(
        problem="budget.json is damaged, so what was reduced to fit the time limit is unknown."
    )


def test_a_budget_of_another_plan_is_a_problem(tmp_path: Path) -> None:
    study = study_folder(tmp_path)
    write_spec(study, methods=METHODS, seeds=2)
    write_budget(study, seeds=3)
    assert "plans other settings" in str(report_of(study).problem)
    write_budget(study)
    (study / "study.json").unlink()
    (study / MANIFEST).unlink()  # a folder of an earlier version, which was never complete
    assert "plans other settings" in str(report_of(study).problem)


def test_a_summary_holds_the_texts_of_one_run_at_a_time(tmp_path: Path) -> None:
    def peak(runs: int) -> int:
        study = tmp_path / str(runs)
        for seed in range(runs):
            folder = add_run(study, "lora", seed, {})
            folder.write_predictions(
                Prediction(id=f"d{at}", text=f"{at} " * 40_000, scores={"rouge1": float(at), "empty": 0.0})
                for at in range(9)
            )
        tracemalloc.start()
        try:
            assert len(summary_of(study).rows[0].runs) == runs
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # what is built at the first use
    assert peak(8) < 1.5 * peak(2)
