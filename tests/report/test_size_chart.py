"""The chart of data sizes: the curves, and where the better method of a pair changes."""

from pathlib import Path
from typing import Any

from support.report_study import load, read_summary
from tuneoff.report.figures import specification
from tuneoff.report.size_chart import data_size_curves
from tuneoff.report.study_charts import method_styles
from tuneoff.results.summary import BandPoint, Crossover, SizeCurve, SizePoint

CURVES = [
    SizeCurve(
        method=name,
        title=name,
        points=tuple(
            SizePoint(fraction=size / 1000, examples=size, mean=mean)
            for size, mean in zip((100, 300, 1000), means, strict=True)
        ),
    )
    for name, means in (("lora", (30.0, 32.0, 33.0)), ("full", (25.0, 31.0, 36.0)))
]
CHANGE = Crossover(
    first="lora",
    second="full",
    outcome="located",
    small="lora",
    large="full",
    low=300,
    high=1000,
    estimate=400,
    band=tuple(
        BandPoint(fraction=size / 1000, examples=size, difference=1.0, low=0.0, high=2.0) for size in (100, 300, 1000)
    ),
)


def drawn(folder: Path, *crossovers: Crossover, curves: list[SizeCurve] = CURVES) -> dict[str, Any]:
    styles = method_styles(read_summary(folder), load(folder))
    chart = data_size_curves(curves, crossovers, styles, "starter", "rouge1")
    assert chart is not None
    chart.to_dict(validate=True)  # the page does not check it
    return specification(chart)


def changes(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for rows in found["datasets"].values() for row in rows if "change" in row]


def test_a_located_crossover_is_a_band(rich_study: Path) -> None:
    found = drawn(rich_study, CHANGE)
    assert changes(found) == [
        {"from": 300, "to": 1000, "change": "Full fine-tuning overtakes LoRA", "between": "300 to 1,000"}
    ]
    marks = [layer["mark"]["type"] for layer in found["concat"][0]["layer"]]
    assert marks == ["rect", "text", "line", "point"]  # the band is behind the curves


def test_without_a_located_crossover_there_is_no_band(rich_study: Path) -> None:
    for outcome in ("undetermined", "throughout", "changes more than once"):
        assert changes(drawn(rich_study, CHANGE.model_copy(update={"outcome": outcome}))) == []
    equal = [
        curve.model_copy(update={"points": tuple(point.model_copy(update={"examples": 800}) for point in curve.points)})
        for curve in CURVES
    ]
    assert changes(drawn(rich_study, CHANGE, curves=equal)) == [], "the axis has fractions, not examples"
