"""The charts of a study by name, with captions that report concurrent runs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support.report_study import (
    PageTexts,
    add_timing_run,
    edit_records,
    load,
    read_summary,
    with_concurrent_run,
    write_new_summary,
)
from support.verdict_study import divide_into_folds
from tuneoff.errors import UserError
from tuneoff.report import CHARTS, chart, figures
from tuneoff.report.study_charts import study_charts
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.summary import BandPoint, Crossover, DataSizeVerdict, SizeCurve, SizePoint, Summary

HOSTILE = "</h2><script>alert(1)</script>\x1b[31m\u202e"
WITH_TIMES = {"quality_against_time", "resource_bars", "timeline"}


def test_every_chart_has_a_name(rich_study: Path) -> None:
    summary, study = read_summary(rich_study), load(rich_study)
    drawn = {one.name: one for one in study_charts(summary, study)}
    assert set(drawn) == CHARTS.keys() - {"data_sizes", "search"}
    assert chart("data_sizes", summary, study) is None
    assert chart("cost", summary, study) is not None
    assert all(one.file == CHARTS[name] for name, one in drawn.items())


def test_every_chart_fits_the_schema(rich_study: Path) -> None:
    """What the page embeds is not checked when it is written."""
    for one in study_charts(read_summary(rich_study), load(rich_study)):
        one.chart.to_dict(validate=True)


def test_an_unknown_name_is_refused(rich_study: Path) -> None:
    with pytest.raises(UserError, match=r"no chart is called 'qualty'; did you mean `quality`\?"):
        chart("qualty", read_summary(rich_study), load(rich_study))


def test_data_sizes_have_a_chart_for_each_model(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=2, models=("a/x", "b/y"), methods=("zero_shot", "lora"))
    points = tuple(SizePoint(fraction=size / 100, examples=size, mean=20.0 + size) for size in (10, 100))
    band = tuple(
        BandPoint(fraction=size / 100, examples=size, difference=-1.0, low=-2.0, high=0.5) for size in (10, 100)
    )
    sizes = [
        DataSizeVerdict(
            block=model,
            level=0.95,
            curves=tuple(SizeCurve(method=name, title=name, points=points) for name in ("zero_shot", "lora")),
            crossovers=(
                Crossover(
                    first="zero_shot",
                    second="lora",
                    outcome="undetermined",
                    small=None,
                    large=None,
                    low=None,
                    high=None,
                    estimate=None,
                    band=band,
                ),
            ),
            sentences=(),
            notes=(),
        )
        for model in ("a/x", "b/y")
    ]
    summary = read_summary(study).model_copy(update={"data_sizes": tuple(sizes)})
    drawn = [one for one in study_charts(summary, load(study)) if one.name == "data_sizes"]
    assert [(one.file, one.title) for one in drawn] == [
        ("data_sizes", "Amount of data, x"),
        ("data_sizes_2", "Amount of data, y"),
    ]
    sets = figures.specification(chart("data_sizes", summary, load(study)))["datasets"].values()
    other = summary.model_copy(update={"primary_metric": "rougeL"})
    axes = json.dumps(figures.specification(chart("data_sizes", other, load(study))))
    assert "ROUGE-L" in axes
    assert "ROUGE-1" not in axes
    assert "training examples that were read" in axes
    same = [curve.model_dump() for curve in sizes[0].curves]
    for curve in same:  # as many examples at both fractions
        curve["points"] = [{**point, "examples": 10} for point in curve["points"]]
    read = sizes[0].model_copy(update={"curves": tuple(map(SizeCurve.model_validate, same))})
    drawn_same = figures.specification(
        chart("data_sizes", summary.model_copy(update={"data_sizes": (read,)}), load(study))
    )
    assert "% of the training data" in json.dumps(drawn_same)
    rows = [row for data in drawn_same["datasets"].values() for row in data if "quality" in row]
    assert {row["examples"] for row in rows} == {10.0, 100.0}
    gains = [row for rows in sets for row in rows if "gain" in row and "method" in row]
    assert [(row["gain"], row["low"], row["high"]) for row in gains] == [(1.0, -0.5, 2.0)] * 2


def test_every_chart_with_times_reports_concurrent_runs(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=3, methods=("zero_shot", "lora"))
    edit_records(study, with_concurrent_run)
    write_new_summary(study)
    captions = PageTexts(study).captions
    assert {name for name, caption in captions.items() if "p to 2 concurrent runs" in caption} == WITH_TIMES
    add_timing_run(study, "lora")
    write_new_summary(study)
    captions = PageTexts(study, with_files=True).captions
    for name in WITH_TIMES - {"timeline"}:
        assert "those of a timing run alone, except for Zero-shot, measured with" in captions[name]
        assert "timing run" in (study / "figures" / f"{name}.svg").read_text(encoding="utf-8")
    assert "slower than a run alone" in (study / "figures" / "timeline.svg").read_text(encoding="utf-8")


def drawn_intervals(summary: Summary, study: Path) -> dict[str, tuple[float, float] | None]:
    """Method of each point -> the ends of its line; None where there is no line."""
    sets = figures.specification(chart("quality", summary, load(study)))["datasets"].values()
    rows = [row for rows in sets for row in rows if "cost" in row]
    return {row["method"]: None if row["low"] == row["high"] else (row["low"], row["high"]) for row in rows}


def test_the_mean_of_several_folds_has_no_interval_at_one_of_them(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=60, methods=("lora", "full"))
    divide_into_folds(study, 4)
    summary = write_new_summary(study)
    rows = [row for row in summary.rows if row.kind == "method"]
    assert [(row.seeds, row.score("rouge1").low is None) for row in rows] == [(1, False), (1, False)]
    assert drawn_intervals(summary, study) == {"LoRA": None, "Full fine-tuning": None}


def test_the_only_finished_run_of_several_has_its_interval(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=60, seeds=2, methods=("lora", "full"))
    run = next(run for run in load(study).runs if run.name.startswith("lora-s1"))
    run.dir.write_record(run.record.model_copy(update={"status": "failed"}))
    summary = write_new_summary(study)
    score = next(row for row in summary.rows if row.name == "lora").score("rouge1")
    assert score.low is not None
    assert drawn_intervals(summary, study) == {"LoRA": (score.low, score.high), "Full fine-tuning": None}


def test_the_point_of_a_run_that_scored_more_documents_is_its_mean_over_the_compared_ones(
    fake_study: Callable[..., Path],
) -> None:
    """The interval is of these, and would not be around the score of all documents."""
    study = fake_study(documents=60, methods=("lora", "full"))
    full, lora = sorted(load(study).runs, key=lambda run: run.name)
    full.dir.write_predictions(full.predictions[:30])
    lora.dir.write_predictions(
        row.model_copy(update={"scores": {**row.scores, "rouge1": 20.0 + index % 5 + 20 * (index >= 30)}})
        for index, row in enumerate(lora.predictions)
    )
    lora.dir.write_record(lora.record.model_copy(update={"scores": {**lora.record.scores, "rouge1": 31.0}}))
    summary = write_new_summary(study)
    drawn = next(one for one in study_charts(summary, load(study)) if one.name == "quality")
    points = [row for rows in figures.specification(drawn.chart)["datasets"].values() for row in rows if "cost" in row]
    shown = {row[1]: row[2:4] for row in drawn.numbers.rows}
    for row in (row for row in summary.rows if row.kind == "method"):
        score = row.score("rouge1")
        assert score.low is not None
        assert score.high is not None
        [point] = [point for point in points if point["method"] == row.title]
        assert (point["low"], point["quality"], point["high"]) == (score.low, score.mean, score.high)
        assert point["low"] < point["quality"] < point["high"]
        assert shown[row.title] == (f"{score.mean:.1f}", f"{score.low:.1f} to {score.high:.1f}")
    assert shown["LoRA"][0] == "22.0"


def test_charts_of_costs_show_the_times_of_the_timing_run(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=3, methods=("lora",))
    [record] = edit_records(study, with_concurrent_run)
    add_timing_run(study, "lora")
    summary = write_new_summary(study)
    assert record.resources is not None
    sets = figures.specification(chart("quality", summary, load(study)))["datasets"].values()
    [row] = [row for rows in sets for row in rows if "cost" in row]
    assert row["cost"] * 60 == pytest.approx(record.resources.total_seconds / 2)


def test_a_hostile_name_in_a_caption_is_text(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=3, methods=("zero_shot", "lora"))
    edit_records(study, with_concurrent_run)
    add_timing_run(study, "lora")
    summary = write_new_summary(study)
    rows = tuple(row.model_copy(update={"title": f"{HOSTILE} {row.name}"}) for row in summary.rows)
    StudyDir(study).write_summary(summary.model_copy(update={"rows": rows}))
    page = PageTexts(study)
    assert "</h2><script>alert(1)</script>⟨U+001B⟩[31m⟨U+202E⟩ zero_shot, measured" in page.captions["resource_bars"]
    assert not {"\x1b", "\u202e"} & set((study / "report.html").read_text(encoding="utf-8"))
