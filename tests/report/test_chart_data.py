"""Rows of data for charts, and notes on concurrent runs."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from support.report_study import add_timing_run, edit_records, load, with_concurrent_run
from tuneoff.report import chart_data
from tuneoff.report.theme import MethodStyles
from tuneoff.results.run_record import Phase, TimelinePoint, ValidationPoint
from tuneoff.verdict.costs import finished_timing_runs


def test_thinning_keeps_the_peak() -> None:
    points = tuple(
        TimelinePoint(seconds=float(at), phase="train", memory_bytes=9_000 if at == 777 else at % 50, cpu=1.0)
        for at in range(10_000)
    )
    thin = chart_data.thinned(points)
    assert len(thin) <= chart_data.TIMELINE_POINTS
    assert max(point.memory_bytes for point in thin) == 9_000
    assert chart_data.thinned(points[:7]) == list(points[:7])


def test_many_runs_have_few_points_each_and_keep_their_best(fake_study: Callable[..., Path]) -> None:
    assert chart_data.points_each(300, 1) == chart_data.points_each(300, 30) == 300
    assert 500 * chart_data.points_each(300, 500) <= chart_data.CHART_POINTS
    [record] = load(fake_study(documents=1, methods=("lora",))).records
    losses = [ValidationPoint(step=at, epoch=at / 9, seconds=at, loss=9 - at / 99) for at in range(1, 101)]
    curve = record.curve.model_copy(update={"validation": losses, "best_step": 33})
    styles = MethodStyles([record])
    rows = chart_data.validation_rows(record.model_copy(update={"curve": curve}), styles, 10)
    assert len(rows) == 12
    assert [row["epoch"] for row in rows if row["kept"]] == [round(33 / 9, 4)]
    assert rows[-1]["epoch"] == round(100 / 9, 4)
    assert len(chart_data.train_rows(record, styles, 10)) == 10


def test_a_method_that_trains_nothing_has_one_level_and_no_curve(fake_study: Callable[..., Path]) -> None:
    records = load(fake_study(documents=1, methods=("zero_shot", "lora"))).records
    styles = MethodStyles(records)
    zero_shot, lora = sorted(records, key=lambda record: record.spec.method.name, reverse=True)
    assert [row["loss"] for row in chart_data.level_rows(zero_shot, styles)] == [3.61]
    assert chart_data.train_rows(zero_shot, styles) == chart_data.validation_rows(zero_shot, styles) == []
    assert chart_data.level_rows(lora, styles) == []
    assert len(chart_data.train_rows(lora, styles)) == 96
    assert sum(row["kept"] for row in chart_data.validation_rows(lora, styles)) == 1


def test_phases_follow_each_other(rich_study: Path) -> None:
    rows = chart_data.phase_rows(load(rich_study).records[0])
    assert [row["phase"] for row in rows] == ["load", "train", "evaluate", "generate"]
    assert [row["shaded"] for row in rows] == [False, True, False, True]
    assert all(before["end"] == after["start"] for before, after in pairwise(rows))


def test_time_in_which_a_checkpoint_is_saved_is_not_called_loading(fake_study: Callable[..., Path]) -> None:
    [record] = load(fake_study(documents=1, methods=("lora",))).records
    phases: tuple[Phase, ...] = ("load", "train", "load", "train")
    points = [TimelinePoint(seconds=at, phase=phase, memory_bytes=1, cpu=1.0) for at, phase in enumerate(phases)]
    assert record.resources is not None
    resources = record.resources.model_copy(update={"timeline": points})
    rows = chart_data.phase_rows(record.model_copy(update={"resources": resources}))
    assert [row["phase"] for row in rows] == ["load", "train", "checkpoint", "train"]


def test_concurrent_runs_are_noted(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=3, methods=("zero_shot", "lora"))
    records = load(study).records
    styles = MethodStyles(records)
    assert chart_data.cost_note(records, {}, styles) is None
    assert chart_data.timeline_note(records) is None
    records = edit_records(study, with_concurrent_run)
    note = "time and energy were measured with up to 2 concurrent runs: they are not the costs of a run alone"
    assert chart_data.cost_note(records, {}, styles) == note
    assert chart_data.timeline_note(records) == "measured with up to 2 concurrent runs: slower than a run alone"
    add_timing_run(study, "lora")
    timing = finished_timing_runs(load(study).records)
    alone = "up to 2 concurrent runs: time and energy are those of a timing run alone"
    only_lora = [record for record in records if record.spec.method.name == "lora"]
    assert chart_data.cost_note(only_lora, timing, styles) == alone
    part = f"{alone}, except for Zero-shot, measured with concurrent runs"
    assert chart_data.cost_note(records, timing, styles) == part
