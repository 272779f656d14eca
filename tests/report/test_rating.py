"""The page for blind ratings: two methods in random order, no other scripts, untrusted text harmless."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from support.report_study import draw_page, load

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
