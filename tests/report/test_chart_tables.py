"""The numbers behind the charts."""

from pathlib import Path

from support.report_study import FACTS, load, read_summary
from tuneoff.report import chart_tables
from tuneoff.report.study_charts import compared_runs, method_styles, study_charts
from tuneoff.results.summary import DataSizeVerdict, SizeCurve, SizePoint


def test_every_chart_has_a_table_with_its_rows(rich_study: Path) -> None:
    summary, study = read_summary(rich_study), load(rich_study)
    records = [run.record for run in compared_runs(summary, study)]
    finished = [record.name for record in records if record.status == "finished"]
    tables = {one.name: one.numbers for one in study_charts(summary, study)}
    for name, table in tables.items():
        assert table.rows, name
        assert all(len(row) == len(table.headings) for row in table.rows), name
    assert [row[0] for row in tables["quality"].rows] == finished
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


def test_a_long_table_ends_with_what_is_left_out(rich_study: Path) -> None:
    study = load(rich_study)
    record = next(run.record for run in study.runs if run.name.startswith("lora-s0"))
    rows = chart_tables.loss_table([record] * 230, method_styles(read_summary(rich_study), study)).rows
    assert len(rows) == 201
    assert rows[-1][0] == "and 30 more in the records"
