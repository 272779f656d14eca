"""Samples of lm-evaluation-harness: files that it wrote, and what is refused."""

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tuneoff.errors import UserError
from tuneoff.scores import ScoreColumns, is_score_source, read_score_files
from tuneoff.verdict.score_verdict import judge_scores

REAL = Path(__file__).parents[1] / "fixtures" / "scores" / "lm_eval"
Write = Callable[[str, str], str]


def samples(model: int, task: str) -> list[dict[str, object]]:
    [path] = (REAL / "out" / f"tiny__random-{model}").glob(f"samples_{task}_*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_folder_of_real_files_has_every_model_task_metric_and_filter() -> None:
    assert is_score_source(str(REAL))
    data = read_score_files([str(REAL)])
    assert data.systems == ("tiny/random-0", "tiny/random-1")
    assert data.metrics == ("acc", "acc_norm", "exact_match,first", "exact_match,digits")
    for model in (0, 1):
        found = data.scores["acc"][f"tiny/random-{model}", 0]
        assert found == {f"tiny_choice/{row['doc_id']}": row["acc"] for row in samples(model, "tiny_choice")}
    assert {item.partition("/")[0] for item in data.scores["exact_match,first"]["tiny/random-0", 0]} == {"tiny_write"}


def test_the_verdict_on_real_files_has_the_figures_of_a_paired_comparison() -> None:
    verdict = judge_scores(read_score_files([str(REAL)])).verdict
    by_model = [np.array([row["acc"] for row in samples(model, "tiny_choice")], dtype=float) for model in (0, 1)]
    difference = 100 * (by_model[0] - by_model[1])
    [pair] = verdict.pairs
    assert [result.mean for result in verdict.methods] == pytest.approx([100 * values.mean() for values in by_model])
    assert pair.difference == pytest.approx(difference.mean())
    assert pair.standard_error == pytest.approx(difference.std(ddof=1) / np.sqrt(len(difference)))
    assert (verdict.metric, verdict.documents) == ("acc", 15)


def test_groups_come_from_the_document() -> None:
    data = read_score_files([str(REAL)], ScoreColumns(group="doc.passage"))
    assert len(set(data.groups.values())) == 5
    assert data.groups["tiny_choice/0"] == "table of 2"


def test_a_folder_for_each_seed_is_named_like_its_system() -> None:
    folders = sorted((REAL / "out").iterdir())
    data = read_score_files([f"mine={folder}" for folder in folders])
    assert set(data.scores["acc"]) == {("mine", 0), ("mine", 1)}


def test_the_same_task_twice_is_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(REAL / "out" / "tiny__random-0", folder)
    [path] = folder.glob("samples_tiny_choice_*")
    shutil.copy(path, folder / "samples_tiny_choice_2027-01-01T00-00-00.000001.jsonl")
    with pytest.raises(UserError, match=r"jsonl:1: a second score of model for item tiny_choice/0; .*NAME=FILE"):
        read_score_files([str(folder)])


def sample(doc_id: int, **other: object) -> dict[str, object]:
    return {"doc_id": doc_id, "doc": {}, "resps": [], "filter": "none", "doc_hash": f"h{doc_id}", **other}


def lines(*rows: dict[str, object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_files_of_older_versions_have_no_list_of_metrics_and_no_date(write: Write) -> None:
    path = write("a__b/samples_arc_easy.jsonl", lines(sample(1, acc=1.0, bits=[1, 2]), sample(2, acc=0.0, bits=[3, 4])))
    data = read_score_files([path])
    assert data.scores == {"acc": {("a/b", 0): {"arc_easy/1": 1.0, "arc_easy/2": 0.0}}}
    assert data.notes == ("Metrics of arc_easy that are not one number for each sample are not used: bits.",)


def test_items_of_other_content_are_not_compared(write: Write) -> None:
    one = write("a/samples_t.jsonl", lines(*(sample(at, acc=1.0) for at in range(3))))
    other = write(
        "b/samples_t.jsonl", lines(sample(0, acc=1.0), sample(1, acc=0.0, doc_hash="other"), sample(2, acc=0.0))
    )
    data = read_score_files([one, other])
    assert set(data.scores["acc"]["a", 0]) == {"t/0", "t/2"}
    assert data.notes == ("1 item left out: the systems have different contents under one id (such as t/1).",)


def test_damage_is_refused_with_its_line(write: Write) -> None:
    damaged = write("a/samples_t.jsonl", lines(sample(0, acc=1.0)) + '{"doc_id": 1, "doc"\n')
    with pytest.raises(UserError, match=r"samples_t\.jsonl:2: not JSON"):
        read_score_files([damaged])
    other = write("b/samples_t.jsonl", lines(sample(0, acc=1.0), {"doc": {}}))
    with pytest.raises(UserError, match=r"samples_t\.jsonl:2: no doc_id, so this is not a sample"):
        read_score_files([other])
    deep = write("c/samples_t.jsonl", lines(sample(0, acc=1.0)) + '{"doc_id":' + "[" * 100_000 + "\n")
    with pytest.raises(UserError, match=r"samples_t\.jsonl:2: JSON that cannot be read"):
        read_score_files([deep])


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs lm-evaluation-harness (extra interop)")
def test_the_installed_lm_evaluation_harness_writes_such_files(tmp_path: Path) -> None:
    # In a process of its own: a warning of that program is no error of ours.
    subprocess.run([sys.executable, REAL.parent / "make.py", tmp_path, "lm_eval"], check=True, capture_output=True)
    new, old = (read_score_files([str(folder)]) for folder in (tmp_path / "lm_eval", REAL))
    assert (new.systems, new.metrics) == (old.systems, old.metrics)
    assert {metric: {key: set(row) for key, row in runs.items()} for metric, runs in new.scores.items()} == {
        metric: {key: set(row) for key, row in runs.items()} for metric, runs in old.scores.items()
    }
