"""Charts: every run is drawn, with the numbers of its record."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.report_study import load
from tuneoff.report import figures, run_figures
from tuneoff.report.theme import DARK, MethodStyles
from tuneoff.results.run_record import Record

PNG = b"\x89PNG\r\n\x1a\n"


def records_of(study: Path) -> list[Record]:
    return load(study).records


def rows_of(chart: Any, field: str) -> list[dict[str, Any]]:
    """All rows of data in a chart that have `field`."""
    sets = figures.specification(chart).get("datasets", {}).values()
    return [row for rows in sets for row in rows if field in row]


def all_charts(records: list[Record]) -> dict[str, Any]:
    return {
        "loss": figures.loss_curves(records),
        "bars": figures.cost_bars(records),
        "timeline": figures.timeline(records),
        **{cost: figures.quality_against(records, cost, baselines={"LEAD-1": 22.0}) for cost in figures.AGAINST},
    }


def test_every_run_is_drawn(rich_study: Path) -> None:
    records = records_of(rich_study)
    names = {record.name for record in records}
    finished = {record.name for record in records if record.status == "finished"}
    assert {row["run"] for row in rows_of(figures.loss_curves(records), "loss")} == names
    assert {row["run"] for row in rows_of(figures.timeline(records), "memory")} == names
    for cost in figures.AGAINST:
        drawn = {row["run"] for row in rows_of(figures.quality_against(records, cost), "cost")}
        assert drawn == finished < names


def test_numbers_in_charts_are_those_of_the_records(rich_study: Path) -> None:
    records = records_of(rich_study)
    lora = next(record for record in records if record.name == "lora-s0")
    row = next(row for row in rows_of(figures.quality_against(records, "size"), "cost") if row["run"] == "lora-s0")
    assert row["quality"] == lora.scores["rouge1"]
    assert lora.artefact is not None
    assert row["cost"] == lora.artefact.bytes / 1e6
    kept = [row for row in rows_of(figures.loss_curves([lora]), "kept") if row["kept"]]
    assert {row["epoch"] for row in kept} == {lora.curve.best_epoch}


def test_the_axis_of_a_single_value_has_room_around_it(fake_study: Callable[..., Path]) -> None:
    """Vega labels a domain without a width with a rounded number: a loss of 3.2 was at the mark 3."""
    (record,) = records_of(fake_study(methods=("zero_shot",), documents=2))
    loss, score = record.curve.validation[-1].loss, record.scores["rouge1"]
    assert score is not None
    for chart, value in ((figures.loss_curves([record]), loss), (figures.quality_against([record], "time"), score)):
        low, high = figures.specification(chart)["layer"][0]["encoding"]["y"]["scale"]["domain"]
        assert low < value < high


def test_nothing_to_draw_is_none_not_an_empty_chart(rich_study: Path) -> None:
    bare = [
        record.model_copy(
            update={
                "curve": type(record.curve)(),
                "resources": None,
                "scores": {},
                "artefact": None,
                "trainable_parameters": None,
            }
        )
        for record in records_of(rich_study)
    ]
    assert set(all_charts(bare).values()) == {None}
    assert set(all_charts([]).values()) == {None}


def test_the_dark_page_knows_every_colour_of_every_chart(rich_study: Path) -> None:
    for name, chart in all_charts(records_of(rich_study)).items():
        colours = set(re.findall(r"#[0-9a-fA-F]{6}\b", json.dumps(figures.specification(chart))))
        assert colours, name
        assert colours <= DARK.keys(), name


def test_a_method_keeps_its_colour_and_each_has_its_own(rich_study: Path) -> None:
    styles = list(MethodStyles(records_of(rich_study)))
    assert len({style.colour for style in styles}) == len({style.shape for style in styles}) == len(styles) == 4
    by_method = {style.method: style.colour for style in styles}
    legend = figures.specification(figures.cost_bars(records_of(rich_study)))
    scales = re.findall(r'"color": \{"field": "method".*?"range": (\[.*?\])', json.dumps(legend))
    assert scales
    assert all(json.loads(scale) == list(by_method.values()) for scale in scales)


def test_run_figures_draw_loss_and_resources_with_the_accelerator(fake_study: Callable[..., Path]) -> None:
    study = fake_study(methods=("lora",), documents=2, accelerator=True)
    (run,) = load(study).runs
    written = run_figures(run).paths
    assert [path.name for path in written] == ["loss.png", "loss.svg", "resources.png", "resources.svg"]
    assert all(path.parent == run.dir.path / "figures" for path in written)
    for path in written:
        head = path.read_bytes()[:8]
        assert head == PNG if path.suffix == ".png" else head.startswith(b"<svg"), path
    assert "GPU use" in (run.dir.path / "figures" / "resources.svg").read_text(encoding="utf-8")


def test_a_label_that_xml_forbids_does_not_end_the_process(fake_study: Callable[..., Path]) -> None:
    study = fake_study(methods=("lora",), documents=2)
    (record,) = records_of(study)
    chart = figures.timeline([record.model_copy(update={"name": "bell\x07 nul\x00 bidi\u202e <b>"})])
    png, svg = figures.save_charts({"timeline": figures.specification(chart)}, study / "figures").paths
    assert png.read_bytes().startswith(PNG)
    assert "<b>" not in svg.read_text(encoding="utf-8")


def test_cost_bars_have_one_panel_for_each_axis_with_a_cost(rich_study: Path) -> None:
    chart = figures.specification(figures.cost_bars(records_of(rich_study)))
    titles = [panel["layer"][0]["title"] for panel in chart["concat"]]
    assert titles == ["Training time", "Peak memory", "Size on disk", "Generation time", "Trainable parameters"]
    bars = rows_of(figures.cost_bars(records_of(rich_study)), "shown")
    assert {row["method"] for row in bars} == {
        "Zero-shot",
        "LoRA",
        "Full fine-tuning",
    }  # the failed method has no costs
    assert any(row["shown"] == "538 MB" for row in bars)
