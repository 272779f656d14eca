"""Instance-level records of Every Eval Ever."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tuneoff.errors import UserError
from tuneoff.scores import ScoreColumns, read_score_files

Write = Callable[[str, str], str]


REAL = Path(__file__).parents[1] / "fixtures" / "scores"


def test_real_records_have_the_scores_that_they_were_converted_from() -> None:
    data = read_score_files([str(REAL / "every_eval_ever")])
    source = read_score_files([str(REAL / "lm_eval")])
    assert data.systems == source.systems
    assert set(data.metrics) == {"acc", "acc_norm"}
    for metric in data.metrics:
        assert data.scores[metric] == source.scores[metric]


def record(model: str, sample: str, score: object, **other: object) -> dict[str, object]:
    return {
        "schema_version": "0.2.2",
        "evaluation_id": f"times/{model}/1",
        "model_id": model,
        "evaluation_name": "times",
        "sample_id": sample,
        "sample_hash": f"h{sample}",
        "interaction_type": "single_turn",
        "input": {"raw": "2 times 3", "reference": ["6"]},
        "output": {"raw": ["6"]},
        "answer_attribution": [],
        "evaluation": {"score": score, "is_correct": score == 1.0},
        **other,
    }


def lines(*rows: dict[str, object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_models_in_one_file_or_in_several(write: Write) -> None:
    rows = [record(model, str(at), float(at)) for model in ("o/a", "o/b") for at in range(3)]
    expected = {"score": {(model, 0): {f"times/{at}": float(at) for at in range(3)} for model in ("o/a", "o/b")}}
    assert read_score_files([write("all.jsonl", lines(*rows))]).scores == expected
    folder = write("data/o/a/1_samples.jsonl", lines(*rows[:3])).partition("/o/")[0]
    write("data/o/b/2_samples.jsonl", lines(*rows[3:]))
    write("data/o/b/2.json", json.dumps({"schema_version": "0.2.2", "evaluation_results": []}))
    write("data/o/b/other.jsonl", '{"a": 1}\n')
    assert read_score_files([folder]).scores == expected


def test_metrics_groups_and_contents(write: Write) -> None:
    rows = [
        record("a", "1", 0.5, evaluation_result_id="f1", metadata={"subject": "law"}),
        record("a", "1", 1.0, evaluation_result_id="exact", metadata={"subject": "law"}),
        record("b", "1", 0.25, evaluation_result_id="f1", metadata={"subject": "law"}),
        record("b", "1", 0.0, evaluation_result_id="exact", sample_hash="h1", metadata={"subject": "law"}),
    ]
    data = read_score_files([write("a.jsonl", lines(*rows))], ScoreColumns(group="metadata.subject"))
    assert data.scores == {
        "f1": {("a", 0): {"times/1": 0.5}, ("b", 0): {"times/1": 0.25}},
        "exact": {("a", 0): {"times/1": 1.0}, ("b", 0): {"times/1": 0.0}},
    }
    assert data.groups == {"times/1": "law"}


def test_without_a_score_correctness_counts(write: Write) -> None:
    rows = [record("a", "1", 1.0, evaluation={"is_correct": True}), record("a", "2", 1.0, evaluation={"score": None})]
    assert read_score_files([write("a.jsonl", lines(*rows))]).scores == {
        "score": {("a", 0): {"times/1": 1.0, "times/2": None}}
    }


REFUSED = {
    "no model": (
        record("", "1", 1.0),
        "not a record of Every Eval Ever; it needs model_id, evaluation_name, sample_id and",
    ),
    "no evaluation": (record("a", "1", 1.0, evaluation=3), "not a record of Every Eval Ever"),
    "a text as a score": (record("a", "1", "good"), "evaluation.score is 'good'; a number was expected"),
}


@pytest.mark.parametrize(("row", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_record_is_refused_with_its_line(row: dict[str, object], message: str, write: Write) -> None:
    with pytest.raises(UserError, match=rf"a\.jsonl:2: {message}"):
        read_score_files([write("a.jsonl", lines(record("a", "0", 1.0), row))])
