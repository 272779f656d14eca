"""PEFT's result files: number of test examples, significant differences, Pareto fronts."""

import json
from pathlib import Path

import pytest

from tuneoff.cli import verdicts
from tuneoff.errors import UserError
from tuneoff.verdict.importers import PEFT_COSTS, infer_test_size, judge_peft_results

EXAMPLES = 1319  # GSM8K's test split, which PEFT's comparison uses


def result_file(
    folder: Path,
    name: str,
    right: int,
    *,
    memory: int = 10,
    seconds: float = 5.0,
    size: int = 1,
    status: str = "success",
) -> Path:
    path = folder / f"{name}.json"
    content = {
        "run_info": {"experiment_name": name, "train_config": {"model_id": "org/base", "seed": 0}},
        "train_info": {
            "cuda_memory_max": memory,
            "train_time": seconds,
            "file_size": size,
            "status": status,
            "metrics": [{"step": 250, "valid accuracy": 0.34}, {"step": 500, "test accuracy": right / EXAMPLES}],
        },
        "meta_info": {},
    }
    path.write_text(json.dumps(content))
    return path


def test_number_of_test_examples_follows_from_the_accuracies() -> None:
    assert infer_test_size([636 / EXAMPLES, 500 / EXAMPLES]) == EXAMPLES
    assert infer_test_size([0.48218347232752085]) == EXAMPLES  # as PEFT writes it
    with pytest.raises(UserError, match="no common number"):
        infer_test_size([1 / 1319, 1 / 1321])
    with pytest.raises(UserError, match="not a fraction of at most"):
        infer_test_size([0.123456789123456])


def test_significant_differences(tmp_path: Path) -> None:
    files = [result_file(tmp_path, "a", 700), result_file(tmp_path, "b", 690), result_file(tmp_path, "c", 400)]
    [verdict] = judge_peft_results(files)
    assert verdict.examples == EXAMPLES
    assert [(row.name, row.may_be_best) for row in verdict.results] == [("a", True), ("b", True), ("c", False)]
    # Three equal experiments: Tukey's 3.31 / sqrt 2 standard errors of a difference of two accuracies near one half.
    assert verdict.width == pytest.approx(100 * 3.314 * (0.25 / EXAMPLES) ** 0.5, rel=0.01)
    assert any("With one seed the variance between trainings is unknown" in sentence for sentence in verdict.sentences)
    # Wilson's interval for 700 of 1319, by his formula.
    assert (verdict.results[0].low, verdict.results[0].high) == pytest.approx((50.38, 55.75), abs=0.02)


def test_pareto_fronts(tmp_path: Path) -> None:
    files = [
        result_file(tmp_path, "best", 700, memory=30),
        result_file(tmp_path, "small", 600, memory=10),
        result_file(tmp_path, "useless", 590, memory=20),
    ]
    [verdict] = judge_peft_results(files)
    fronts = {row.name: PEFT_COSTS[0] in row.on_front for row in verdict.results}
    assert fronts == {"best": True, "small": True, "useless": False}


def test_failed_experiments_are_excluded_and_bad_files_named(tmp_path: Path) -> None:
    files = [result_file(tmp_path, "a", 700), result_file(tmp_path, "b", 1, status="failed")]
    assert [row.name for row in judge_peft_results(files)[0].results] == ["a"]
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    with pytest.raises(UserError, match=r"bad\.json: not a result file"):
        judge_peft_results([bad])


def test_the_command_prints_text_or_json(tmp_path: Path) -> None:
    files = [result_file(tmp_path, "a", 700), result_file(tmp_path, "b", 690)]
    assert "2 of 2 may be the best" in verdicts.peft_output(files, as_json=False)
    assert json.loads(verdicts.peft_output(files, as_json=True))[0]["examples"] == EXAMPLES


@pytest.mark.parametrize("accuracy", [float("nan"), float("inf"), 1.5, -0.1])
def test_an_accuracy_outside_0_to_1_is_rejected(tmp_path: Path, accuracy: float) -> None:
    path = result_file(tmp_path, "a", 700)
    content = json.loads(path.read_text())
    content["train_info"]["metrics"][-1]["test accuracy"] = accuracy
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"a\.json: not a result file"):
        judge_peft_results([path])


def test_no_sentence_denies_a_significant_difference(tmp_path: Path) -> None:
    """Accuracies near 100 % vary less: experiments closer than the width for all of them can be told apart."""
    files = [result_file(tmp_path, name, right) for name, right in (("a", 1307), ("b", 1268), ("c", 663))]
    [verdict] = judge_peft_results(files)
    best, second, _ = verdict.results
    assert not second.may_be_best
    assert best.accuracy - second.accuracy < verdict.width
    assert verdict.sentences[2] == (
        "Experiments more than 4.6 points apart are significantly different. Closer ones may be too: accuracies near 0 "
        "or 100 vary less."
    )
