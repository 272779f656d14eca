"""A summary as HTML in a notebook: one row each, and nothing of a stranger is markup."""

import re
from pathlib import Path

import pytest

from support.verdict_study import load, study_folder
from tuneoff.report.notebook_table import study_html
from tuneoff.results.summary import Summary
from tuneoff.verdict import summarize


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    return summarize(load(study_folder(tmp_path)))


def lines_of(page: str) -> list[list[str]]:
    return [re.findall(r"<t[hd]>(.*?)</t[hd]>", line) for line in re.findall(r"<tr>(.*?)</tr>", page)]


def test_every_row_has_a_cell_under_every_heading(summary: Summary) -> None:
    header, *lines = lines_of(study_html(summary))
    assert header[:5] == ["method", "ROUGE-1", "ROUGE-2", "ROUGE-L", "gain"]
    assert [line[0] for line in lines] == [row.title for row in summary.rows]
    assert {len(line) for line in lines} == {len(header)}


def test_only_costs_that_were_measured_have_a_column(summary: Summary) -> None:
    header, *_ = lines_of(study_html(summary))
    assert "training time" in header
    assert "energy" not in header


def test_several_models_have_a_column(tmp_path: Path) -> None:
    header, *lines = lines_of(study_html(summarize(load(study_folder(tmp_path, models=("a/x", "b/y"))))))
    assert header[1] == "model"
    assert {line[1] for line in lines} == {"a/x", "b/y"}


def test_the_verdict_follows_and_names_are_escaped(summary: Summary) -> None:
    row = summary.rows[0].model_copy(update={"title": "<script>x()</script>"})
    page = study_html(summary.model_copy(update={"name": "<b>", "rows": (row, *summary.rows[1:])}))
    assert "<script" not in page
    assert "<h3>&lt;b&gt;</h3>" in page
    assert page.count("<p>") == len(summary.sentences)
