"""The table as LaTeX, Markdown and CSV."""

import csv
import io
import re
from pathlib import Path

from support.report_study import HOSTILE, load, read_summary
from tuneoff.report.paper import study_table
from tuneoff.report.table_formats import as_csv, as_latex, as_markdown
from tuneoff.results.summary import ComparisonRow, Interval, Summary


def with_titles(summary: Summary, *titles: str) -> Summary:
    rows = [row.model_copy(update={"title": title}) for row, title in zip(summary.rows, titles, strict=False)]
    return summary.model_copy(update={"rows": tuple(rows)})


def test_csv_has_the_numbers_of_the_summary(rich_study: Path) -> None:
    summary = read_summary(rich_study)
    lines = list(csv.DictReader(io.StringIO(as_csv(summary))))
    assert [line["name"] for line in lines] == [row.name for row in summary.rows]
    lora, row = next((line, row) for line, row in zip(lines, summary.rows, strict=True) if row.name == "lora")
    score = row.score("rouge1")
    assert [float(lora[f"rouge1{end}"]) for end in ("", "_low", "_high")] == [score.mean, score.low, score.high]
    assert float(lora["train_seconds"]) == row.cost("train_seconds")
    assert lora["energy_joules"] == ""  # unknown, not 0


def test_a_cell_that_a_spreadsheet_would_compute_is_text(rich_study: Path) -> None:
    bad = ['=HYPERLINK("http://x")', "+1", "-2+3", "@SUM(A1)", "\t=1", " =1", "＝1", "\r=1"]
    rows = [ComparisonRow(name=title, title=title, kind="method", model=title) for title in bad]
    gain = Interval(mean=-1.5)
    summary = read_summary(rich_study).model_copy(update={"rows": (*rows, rows[0].model_copy(update={"gain": gain}))})
    lines = list(csv.DictReader(io.StringIO(as_csv(summary))))
    for line in lines:
        assert all(line[key].startswith("'") for key in ("name", "title", "model"))
    assert lines[-1]["gain"] == "-1.5"  # a number stays a number


def test_names_of_metrics_and_texts_with_semicolons_are_not_computed_either(rich_study: Path) -> None:
    """A record names its scores. Where the decimal sign is a comma, a semicolon begins a cell, also between quotes."""
    titles = ("a;=1", 'b,"c; @SUM(A1)', "d;e")
    rows = [ComparisonRow(name="n", title=title, kind="method", scores={"=1+2": Interval(mean=1)}) for title in titles]
    text = as_csv(read_summary(rich_study).model_copy(update={"rows": tuple(rows)}))
    assert not re.search(r"(?:^|[,;\n\"])\s*[=@]", text)
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["title"] for line in lines] == ["a;'=1", "b,\"c;' @SUM(A1)", "d;e"]
    assert [line["'=1+2"] for line in lines] == ["1.0"] * 3


def test_markdown_is_a_table_with_text_in_its_cells(rich_study: Path) -> None:
    summary = with_titles(read_summary(rich_study), "a|b\n*c*", "[x](javascript:1)<script>", HOSTILE, "`code`")
    lines = as_markdown(study_table(summary, load(rich_study))).splitlines()
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
    assert len(columns) == 1
    assert lines[2].startswith(r"| a\|b \*c\* |")
    assert r"\[x\](javascript:1)\<script\>" in lines[3]
    assert "<script" not in re.sub(r"\\<", "", "\n".join(lines))


def test_latex_is_a_booktabs_table_with_escaped_cells(rich_study: Path) -> None:
    summary = with_titles(read_summary(rich_study), "a & b_c % 100", r"\input{x}", HOSTILE, "Full fine-tuning")
    text = as_latex(study_table(summary, load(rich_study)), "my_study & more")
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    body = text[text.index(r"\begin{tabular}") : text.index(r"\end{tabular}")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {7}
    assert r"a \& b\_c \% 100 & " in body
    assert r"\input" not in text
    assert r"\label{tab:my-study---more}" in text
    assert r"\textbf{" in rows[-1] or r"\textbf{" in body
    assert "≥" not in text
