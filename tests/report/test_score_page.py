"""The report of given scores."""

import re
from pathlib import Path

import numpy as np
import pytest

from tuneoff.errors import UserError
from tuneoff.report.score_page import score_page, write_score_page
from tuneoff.results.summary import Summary
from tuneoff.scores.score_data import ScoreData
from tuneoff.verdict.score_verdict import judge_scores, summarize_scores

HOSTILE = '</style><script>alert("1")</script>\u202e'


def summary(*, names: str | list[str] = "abc", items: int = 60, less: bool = False) -> Summary:
    rng = np.random.default_rng(2)
    hardness = rng.normal(50, 10, items)
    runs = {
        (name, 0): {f"i{at}": float(value) for at, value in enumerate(hardness + 4 * place + rng.normal(0, 3, items))}
        for place, name in enumerate(names)
    }
    data = ScoreData(tuple(names), {"quality": runs}, files=("folder/mine.csv",))
    return summarize_scores(judge_scores(data, higher_is_better=not less), "Scores")


def cells(page: str) -> list[list[str]]:
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</tr>", page, re.DOTALL)
    return [[re.sub(r"<svg.*?</svg>|<[^>]+>", "", part).strip() for part in row.split("<td")] for row in rows]


def test_the_page_has_verdict_systems_and_pairs() -> None:
    found = summary()
    page = score_page(found)
    [verdict] = found.verdicts
    assert f"<h1>{verdict.sentences[0]}</h1>" in page
    assert all(sentence in page for sentence in verdict.sentences[1:])
    rows = cells(page)
    assert [row[0] for row in rows] == ["c", "b", "a", "c − b", "c − a", "b − a"]
    assert all("better" in row[-1] for row in rows[3:])
    assert all(re.search(r"\+\d", row[1]) for row in rows[3:])
    assert "mine.csv" in page
    assert "folder/" not in page


def test_less_is_better_turns_the_order_of_the_page() -> None:
    page = score_page(summary(less=True))
    assert [row[0] for row in cells(page)][:4] == ["a", "b", "c", "a − b"]
    assert "less is better" in page


def test_the_page_runs_nothing_and_escapes_every_name() -> None:
    page = score_page(summary(names=[HOSTILE, "b"]))
    assert "<script" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;" in page
    assert "script-src ;" in page


def test_too_few_items_have_a_page_without_differences() -> None:
    page = score_page(summary(items=4))
    assert "<h1>Too small to tell" in page
    assert 'id="pairs"' not in page
    assert 'id="systems"' in page


def test_a_page_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert write_score_page(summary(), tmp_path / "new" / "page.html").exists()
    with pytest.raises(UserError, match="the report cannot be written there"):
        write_score_page(summary(), tmp_path / "file" / "page.html")
