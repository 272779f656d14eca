"""The blind page: two methods, order mixed, nothing that acts on its own, hostile texts harmless."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tuneoff.report import figures, render
from tuneoff.report.rating import PAGE
from tuneoff.results.run_record import read_documents, read_predictions, run_folders, write_predictions

pytestmark = pytest.mark.xdist_group("drawn studies")


def pairs_of(page: Path) -> dict:  # type: ignore[type-arg]
    found = re.search(r'id="pairs">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    content: dict = json.loads(found[1])  # type: ignore[type-arg]
    return content


def test_the_two_best_are_rated_in_mixed_order(rich_study: Path) -> None:
    data = pairs_of(rich_study / PAGE)
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
    text = (rich_study / PAGE).read_text(encoding="utf-8")
    seen = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    for name in pairs_of(rich_study / PAGE)["methods"]:
        assert name not in seen
    assert "default-src &#39;none&#39;" in text
    assert "http" not in seen.replace("http-equiv", "")
    assert "rating.html" in (rich_study / "report.html").read_text(encoding="utf-8")


def test_a_pair_says_what_was_asked_for(fake_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "write", lambda *_: [])
    study = fake_study(documents=6, methods=("zero_shot", "lora"), instruction="State the {aspect} of this paper.")
    render(study)
    fields = {document.id: document.fields for document in read_documents(study)}
    pairs = pairs_of(study / PAGE)["pairs"]
    assert len(pairs) == 6
    for pair in pairs:
        assert pair["instruction"] == f"State the {fields[pair['id']]['aspect']} of this paper."


def test_a_page_of_an_earlier_time_keeps_no_texts(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=6, methods=("zero_shot", "lora"))
    render(study)
    assert pairs_of(study / PAGE)["pairs"]
    for folder in run_folders(study):  # what --no-texts does
        rows = read_predictions(folder)
        write_predictions(
            folder, (row.model_copy(update={"text": "", "scores": row.scores | {"empty": 0}}) for row in rows)
        )
    render(study)
    assert not (study / PAGE).exists()
    assert "by lora" not in (study / "report.html").read_text(encoding="utf-8")
