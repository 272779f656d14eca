"""The table that the terminal shows after a comparison."""

import re
from pathlib import Path

import pytest

from support.looked_study import looked_study
from support.verdict_study import edit_record, load, run_dirs, study_folder
from tuneoff.cli.tables import SHOWN_COSTS, SHOWN_SENTENCES, summary_as_text
from tuneoff.results.cost_axes import COST_AXES
from tuneoff.results.study_state import DataFile
from tuneoff.results.summary import Confound, Finding, Summary
from tuneoff.verdict import summarize


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    return summarize(load(study_folder(tmp_path)))


def test_each_row_has_scores_gain_and_costs(summary: Summary) -> None:
    header, zero_shot, lora, *_ = summary_as_text(summary).splitlines()
    assert header.split() == [
        *("method", "ROUGE-1", "ROUGE-2", "ROUGE-L", "gain"),
        *" ".join(axis.title for axis in COST_AXES[:SHOWN_COSTS]).split(),
    ]
    mean = summary.rows[1].score("rouge1").mean
    assert f"{mean:.1f}" in lora
    assert "10 s" in lora
    assert "0 s" in zero_shot
    assert "2.00 kB" in lora
    assert zero_shot.split()[7] == "–", "zero-shot gains nothing over itself"


def test_the_metric_of_the_study_comes_first(summary: Summary) -> None:
    header = summary_as_text(summary.model_copy(update={"primary_metric": "rougeL"})).splitlines()[0]
    assert header.split()[1:5] == ["ROUGE-L", "ROUGE-1", "ROUGE-2", "gain"]


def test_means_and_gains_have_their_intervals(summary: Summary) -> None:
    _, zero_shot, lora, *_ = summary_as_text(summary).splitlines()
    assert re.match(r"Zero-shot +\d+\.\d \(\d+\.\d to \d+\.\d\) +–", zero_shot)
    assert len(re.findall(r"\d \([+]?\d+\.\d to [+]?\d+\.\d\)", lora)) == 2
    assert re.search(r" \+\d+\.\d \(\+\d+\.\d to \+\d+\.\d\) ", lora)


def test_cautions_precede_the_answer_and_findings_follow(summary: Summary) -> None:
    findings = tuple(Finding(check="seed", where=f"run {number}", message="an outlier") for number in range(5))
    said = (Finding(check="data", where="the test data", message="few\x1b[31m words"), *findings)
    update = {"diagnostics": said, "data": DataFile(cautions=("few\x1b[31m words",))}
    lines = summary_as_text(summary.model_copy(update=update)).splitlines()
    answer = next(number for number, line in enumerate(lines) if line.startswith("No single winner"))
    assert lines[answer - 1] == "CAUTION: few?[31m words"
    assert lines[-4:] == [
        *(f"diagnostics: run {number}: an outlier" for number in range(3)),
        "diagnostics: and 2 more in the report",
    ]


def test_a_study_that_is_too_small_has_no_gain_and_no_interval(tmp_path: Path) -> None:
    text = summary_as_text(summarize(load(study_folder(tmp_path, groups=4))))
    assert "Too small to tell: 4 test documents, 2 seeds." in text
    assert " to " not in text.split("Too small to tell")[0]
    assert "scores highest" not in text


def test_the_answer_follows_the_table(summary: Summary) -> None:
    lines = summary_as_text(summary).splitlines()
    assert lines[-SHOWN_SENTENCES:] == list(summary.sentences[:SHOWN_SENTENCES])
    assert lines[-SHOWN_SENTENCES].startswith("No single winner: ")


def test_confounds_are_the_last_lines(summary: Summary) -> None:
    confounds = tuple(
        Confound(aspect="x", model="starter", changes_scores=grave, description=f"runs differ\x1b[31m {grave}")
        for grave in (True, False)
    )
    lines = summary_as_text(summary.model_copy(update={"confounds": confounds})).splitlines()
    assert lines[-2:] == ["CAUTION: runs differ?[31m True", "note: runs differ?[31m False"]


def test_several_models_have_a_column(tmp_path: Path) -> None:
    study = study_folder(tmp_path, models=("a/x", "b/y"))
    edit_record(run_dirs(study)[0], notes=["a note"])
    lines = summary_as_text(summarize(load(study))).splitlines()
    assert lines[0].split()[:2] == ["method", "model"]
    assert [line.split()[1] for line in lines[1:7] if line.startswith("LoRA")] == ["a/x", "b/y"]


def test_a_study_without_results_is_a_header(tmp_path: Path) -> None:
    assert summary_as_text(summarize(load(tmp_path))).split() == ["method", "ROUGE-1", "ROUGE-2", "ROUGE-L", "gain"]


def test_what_was_decided_at_which_look_is_said_once(tmp_path: Path) -> None:
    found = summarize(load(looked_study(tmp_path / "study")))
    assert found.verdicts[0].looks is not None
    lines = summary_as_text(found).splitlines()
    sentences = found.verdicts[0].looks.sentences
    assert sentences[0].startswith("Look after 3 seeds: Zero-shot and Soft prompt are shown to lose")
    assert [lines.count(sentence) for sentence in sentences] == [1] * len(sentences)
