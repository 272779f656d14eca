"""The picture at the top: every scored row on one scale, the best first."""

import itertools
from collections.abc import Callable
from pathlib import Path

from support.report_study import VERDICT, PageTexts, load, read_summary
from tuneoff.report.overview import Overview, make_overview
from tuneoff.report.study_charts import method_styles
from tuneoff.results.summary import ComparisonRow, Interval, PairResult, Summary

PAIR = PairResult(
    first="lora",
    second="full",
    difference=1.0,
    low=-1.0,
    high=3.0,
    standard_error=1.0,
    df=None,
    decision="no difference shown",
    size="not settled",
    smallest_detectable=None,
)


def picture(summary: Summary, folder: Path) -> Overview:
    study = load(folder)
    records = {run.name: run.record for run in study.runs}
    found = make_overview(summary, records, method_styles(summary, study))
    assert found is not None
    return found


def test_rows_are_in_the_order_of_their_means(rich_study: Path) -> None:
    summary = read_summary(rich_study)
    found = picture(summary, rich_study)
    (no_title, methods), (title, others) = found.blocks
    assert (no_title, title) == (None, "For comparison")
    assert [row.title for row in methods] == ["Full fine-tuning", "LoRA", "Zero-shot"]  # the soft prompt failed
    assert {row.title for row in others} == {"LEAD-1", "LEAD-3", "Oracle sentence", "A colleague's API"}
    positions = [row.strip.mean for row in methods]
    assert positions == sorted(positions, reverse=True)
    lora = next(row.score("rouge1") for row in summary.rows if row.name == "lora")
    assert methods[1].mean == f"{lora.mean:.1f}"
    assert methods[1].interval == f"{lora.low:.1f} to {lora.high:.1f}"


def test_the_axis_has_round_numbers_at_their_place(rich_study: Path) -> None:
    found = picture(read_summary(rich_study), rich_study)
    assert len(found.ticks) >= 3
    values = [float(tick.text) for tick in found.ticks]
    [step] = {later - earlier for earlier, later in itertools.pairwise(values)}
    assert step in (5.0, 10.0)
    slope = (found.ticks[1].position - found.ticks[0].position) / step
    row = found.blocks[0][1][0]
    expected = found.ticks[0].position + slope * (float(row.mean) - values[0])
    assert abs(row.strip.mean - expected) < 0.5


def test_methods_that_may_be_the_best_are_marked(rich_study: Path) -> None:
    summary = read_summary(rich_study)
    for best_set, pairs, expected in (
        (("lora", "full"), (PAIR,), ["may be the best", "may be the best", ""]),
        (("lora",), (PAIR,), ["", "best", ""]),
        (("lora",), (), ["", "", ""]),  # nothing was compared
    ):
        verdict = VERDICT.model_copy(update={"best_set": best_set, "pairs": pairs})
        found = picture(summary.model_copy(update={"verdicts": (verdict,)}), rich_study)
        assert [row.standing for row in found.blocks[0][1]] == expected


def test_less_is_better_turns_the_order(rich_study: Path) -> None:
    rows = [
        ComparisonRow(name=name, title=name, kind="method", model="m", scores={"repetition": Interval(mean=mean)})
        for name, mean in (("a", 0.5), ("b", 0.1))
    ]
    summary = read_summary(rich_study).model_copy(update={"rows": tuple(rows), "primary_metric": "repetition"})
    found = picture(summary, rich_study)
    assert [row.title for row in found.blocks[0][1]] == ["b", "a"]
    assert not found.higher_is_better


def test_one_row_has_no_picture(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, methods=("lora",))
    summary = read_summary(study)
    alone = summary.model_copy(update={"rows": summary.rows[:1]})
    records = {run.name: run.record for run in load(study).runs}
    assert make_overview(alone, records, method_styles(alone, load(study))) is None


def test_the_picture_is_on_the_page_without_a_script(rich_study: Path) -> None:
    text = (rich_study / "report.html").read_text(encoding="utf-8")
    top = text[: text.index("<main")]
    assert top.count("<circle") == 7
    assert "ROUGE-1 of all methods" in top


def test_titles_in_the_picture_are_text(hostile_study: Path) -> None:
    assert "<script>alert(1)" not in (hostile_study / "report.html").read_text(encoding="utf-8")
    assert "</script><script>alert(1)" in PageTexts(hostile_study).sections[""]
