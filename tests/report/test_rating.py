"""The page for blind ratings: two methods in random order, no other scripts, untrusted text harmless."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from support.report_study import draw_page, load, write_new_summary
from support.verdict_study import divide_into_folds, edit_spec
from tuneoff.results.run_dir import RunDir, StoredRun

pytestmark = pytest.mark.xdist_group("drawn studies")


def pairs_of(page: Path) -> dict:  # type: ignore[type-arg]
    found = re.search(r'id="pairs">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    content: dict = json.loads(found[1])  # type: ignore[type-arg]
    return content


def test_the_two_best_are_rated_in_mixed_order(rich_study: Path) -> None:
    data = pairs_of(rich_study / "rating.html")
    assert len(set(data["methods"])) == 2
    orders = [tuple(pair["order"]) for pair in data["pairs"]]
    assert set(orders) == {(0, 1), (1, 0)}
    rows = []
    for run in data["runs"]:
        lines = (rich_study / "runs" / run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
        rows.append({row["id"]: row["text"] for row in map(json.loads, lines)})
    for pair in data["pairs"]:
        assert pair["texts"] == [rows[side][pair["id"]] for side in pair["order"]]
        assert pair["texts"][0] != pair["texts"][1]


def test_the_page_names_no_method_where_it_is_seen(rich_study: Path) -> None:
    text = (rich_study / "rating.html").read_text(encoding="utf-8")
    seen = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    for name in pairs_of(rich_study / "rating.html")["methods"]:
        assert name not in seen
    assert "default-src &#39;none&#39;" in text
    assert "http" not in seen.replace("http-equiv", "")
    assert "rating.html" in (rich_study / "report.html").read_text(encoding="utf-8")


def test_a_pair_says_what_was_asked_for(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=6, methods=("zero_shot", "lora"), instruction="State the {aspect} of this paper.")
    draw_page(study)
    fields = {document.id: document.fields for document in load(study).documents}
    pairs = pairs_of(study / "rating.html")["pairs"]
    assert len(pairs) == 6
    for pair in pairs:
        assert pair["instruction"] == f"State the {fields[pair['id']]['aspect']} of this paper."


def test_an_earlier_page_does_not_keep_texts(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=6, methods=("zero_shot", "lora"))
    draw_page(study)
    assert pairs_of(study / "rating.html")["pairs"]
    for run in load(study).runs:
        scored = [row.model_copy(update={"scores": row.scores | {"empty": 0.0}}) for row in run.predictions]
        run.dir.write_predictions(row.without_text() for row in scored)  # what --no-texts does
    draw_page(study)
    assert not (study / "rating.html").exists()
    assert "by lora" not in (study / "report.html").read_text(encoding="utf-8")


def texts_of(study: Path, run: str) -> dict[str, str]:
    return {row.id: row.text for row in RunDir(study / "runs" / run).read_predictions()}


def keep_outputs(run: StoredRun, ids: set[str]) -> None:
    """Leave a run with the outputs for some documents only."""
    run.dir.write_predictions([row for row in run.predictions if row.id in ids])
    run.dir.write_record(run.record)  # its manifest has the digest of the changed predictions


def test_only_documents_of_both_runs_are_shown(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=12, methods=("lora", "full"))
    every = [one.id for one in load(study).documents]
    full = next(run for run in load(study).runs if run.name.startswith("full-"))
    keep_outputs(full, set(every[:5]))  # as where a time limit reduced the test documents of some runs
    draw_page(study)
    data = pairs_of(study / "rating.html")
    assert {pair["id"] for pair in data["pairs"]} == set(every[:5])
    assert all(all(pair["texts"]) for pair in data["pairs"])


def test_runs_without_a_document_in_common_have_no_page(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=12, methods=("lora", "full"))
    draw_page(study)
    assert (study / "rating.html").exists()
    every = [one.id for one in load(study).documents]
    for index, run in enumerate(load(study).runs):
        keep_outputs(run, set(every[index::2]))
    draw_page(study)
    assert not (study / "rating.html").exists()


def test_both_texts_are_of_one_seed_and_fold(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=12, seeds=2, methods=("lora", "full"))
    divide_into_folds(study, 3)
    first = next(run for run in load(study).runs if run.record.spec.data.fold == 1)
    first.dir.write_predictions([])  # the first run of one method wrote nothing
    first.dir.write_record(first.record)
    write_new_summary(study)
    draw_page(study)
    data = pairs_of(study / "rating.html")
    runs = [next(run for run in load(study).runs if run.name == name) for name in data["runs"]]
    assert len({(run.record.spec.seed, run.record.spec.data.fold) for run in runs}) == 1
    assert data["pairs"]
    for pair in data["pairs"]:
        assert pair["texts"] == [texts_of(study, data["runs"][side])[pair["id"]] for side in pair["order"]]


def test_runs_of_different_seeds_are_compared_where_no_seed_is_of_both(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=12, methods=("lora", "full"))
    lora = next(run for run in load(study).runs if run.name.startswith("lora-"))
    edit_spec(lora.dir, seed=7)
    draw_page(study)
    assert len(pairs_of(study / "rating.html")["pairs"]) == 12
