"""The numbers behind the charts."""

from collections.abc import Callable
from pathlib import Path

from support.report_study import FACTS, load, read_summary
from tuneoff.report import chart_tables
from tuneoff.report.study_charts import compared_runs, method_styles, study_charts
from tuneoff.results.study_state import PruningCheck, SearchCell, TrialResult
from tuneoff.results.summary import BandPoint, Crossover, DataSizeVerdict, SizeCurve, SizePoint


def test_every_chart_has_a_table_with_its_rows(rich_study: Path) -> None:
    summary, study = read_summary(rich_study), load(rich_study)
    records = [run.record for run in compared_runs(summary, study)]
    finished = [record.name for record in records if record.status == "finished"]
    tables = {one.name: one.numbers for one in study_charts(summary, study)}
    for name, table in tables.items():
        assert table.rows, name
        assert all(len(row) == len(table.headings) for row in table.rows), name
    baselines = ["LEAD-1", "LEAD-3", "Oracle sentence", "A colleague's API"]
    assert [row[0] for row in tables["quality"].rows] == finished + baselines
    assert [row[0] for row in tables["loss"].rows] == [record.name for record in records]
    assert {row[2] for row in tables["timeline"].rows} == {"load", "train", "evaluate", "generate"}
    lora = next(row for row in tables["cost"].rows if row[0] == "LoRA")
    assert lora[1:4] == ("1 min 32 s", "1.38 GB", "19.6 MB")
    assert FACTS["lora"][1] == 92.0


def test_a_loss_table_begins_and_ends_as_the_curve(rich_study: Path) -> None:
    summary, study = read_summary(rich_study), load(rich_study)
    record = next(run.record for run in study.runs if run.name.startswith("lora-s0"))
    [row] = chart_tables.loss_table([record], method_styles(summary, study)).rows
    train, validation = record.curve.train, record.curve.validation
    assert row[2:] == (
        "96",
        *(f"{loss:.3f}" for loss in (train[0].loss, train[-1].loss, validation[0].loss, validation[-1].loss)),
        f"{record.curve.best_validation_loss:.3f}",
        str(record.curve.best_step),
    )


def test_sizes_are_columns() -> None:
    points = tuple(SizePoint(fraction=size / 1000, examples=size, mean=size / 100) for size in (1000, 100))
    sizes = DataSizeVerdict(
        block=None,
        level=0.95,
        curves=(SizeCurve(method="lora", title="LoRA", points=points),),
        crossovers=(),
        sentences=(),
        notes=(),
    )
    table = chart_tables.size_table(sizes, "rouge1")
    assert table.headings == ("Method", "10 % (100 examples read)", "100 % (1,000 examples read)")
    assert table.rows == (("LoRA", "1.0", "10.0"),)


def crossover(first: str, second: str, *, small: str, large: str) -> Crossover:
    """The better method changes between 100 and 1,000 examples."""
    ends = {100: (4.0, 1.0, 7.0), 1000: (-2.0, -3.5, -0.5)}
    band = tuple(
        BandPoint(fraction=size / 1000, examples=size, difference=difference, low=low, high=high)
        for size, (difference, low, high) in ends.items()
    )
    return Crossover(
        first=first, second=second, outcome="located", small=small, large=large, low=100, high=1000, estimate=500,
        band=band,
    )  # fmt: skip


def test_sizes_have_the_gains_with_their_bands_and_the_crossovers() -> None:
    points = tuple(SizePoint(fraction=size / 1000, examples=size, mean=size / 100) for size in (100, 1000))
    sizes = DataSizeVerdict(
        block=None,
        level=0.95,
        curves=tuple(
            SizeCurve(method=name, title=title, points=points)
            for name, title in (("zero_shot", "Zero-shot"), ("lora", "LoRA"), ("full", "Full fine-tuning"))
        ),
        crossovers=(
            crossover("zero_shot", "lora", small="zero_shot", large="lora"),
            crossover("full", "zero_shot", small="full", large="zero_shot"),
            crossover("lora", "full", small="lora", large="full").model_copy(update={"outcome": "undetermined"}),
        ),
        sentences=(),
        notes=(),
    )
    table = chart_tables.size_table(sizes, "rouge1")
    assert table.rows[3:] == (
        ("LoRA, gain over Zero-shot with its band", "−4.0 (−7.0 to −1.0)", "+2.0 (+0.5 to +3.5)"),
        ("Full fine-tuning, gain over Zero-shot with its band", "+4.0 (+1.0 to +7.0)", "−2.0 (−3.5 to −0.5)"),
    )
    assert table.notes == (
        "LoRA overtakes Zero-shot between 100 and 1,000 examples read.",
        "Zero-shot overtakes Full fine-tuning between 100 and 1,000 examples read.",
    )


def test_a_pruned_trial_has_the_loss_at_which_the_chart_draws_it(rich_study: Path) -> None:
    pruned = TrialResult(value=3e-3, status="finished", cut_at=10, rungs=(PruningCheck(step=10, validation_loss=3.0),))
    trials = (TrialResult(value=1e-3, validation_loss=2.0), TrialResult(value=1e-2, status="diverged"), pruned)
    cell = SearchCell(model="starter", method="lora", hyperparameter="learning_rate", trials=trials, chosen=1e-3)
    styles = method_styles(read_summary(rich_study), load(rich_study))
    assert chart_tables.search_table([cell], styles).rows == (
        ("LoRA", "0.001", "2.0000", "chosen"),
        ("LoRA", "0.01", "–", "diverged"),
        ("LoRA", "0.003", "3.0000", "pruned at step 10"),
    )


def test_quality_has_the_drawn_intervals_and_baselines(fake_study: Callable[..., Path]) -> None:
    study = fake_study(documents=6, methods=("zero_shot", "lora"), outside={"api": "An API"})
    summary = read_summary(study)
    score, api = summary.rows[1].score("rouge1"), summary.rows[-1].score("rouge1")
    table = next(one.numbers for one in study_charts(summary, load(study)) if one.name == "quality")
    assert table.headings[2:4] == ("ROUGE-1", "95 % interval")
    lora = next(row for row in table.rows if row[1] == "LoRA")
    assert lora[2:4] == (f"{score.mean:.1f}", f"{score.low:.1f} to {score.high:.1f}")
    assert table.rows[-1] == ("An API", "baseline", f"{api.mean:.1f}", *["–"] * 4)


def test_a_baseline_is_there_after_many_runs(rich_study: Path) -> None:
    study = load(rich_study)
    record = next(run.record for run in study.runs if run.name.startswith("lora-s0"))
    styles = method_styles(read_summary(rich_study), study)
    table = chart_tables.quality_table([record] * 230, styles, "rouge1", baselines={"LEAD-1": 20.0})
    assert "95 % interval" not in table.headings
    assert [row[0] for row in table.rows[-2:]] == ["and 30 more in the records", "LEAD-1"]


def test_a_long_table_ends_with_what_is_left_out(rich_study: Path) -> None:
    study = load(rich_study)
    record = next(run.record for run in study.runs if run.name.startswith("lora-s0"))
    rows = chart_tables.loss_table([record] * 230, method_styles(read_summary(rich_study), study)).rows
    assert len(rows) == 201
    assert rows[-1][0] == "and 30 more in the records"
