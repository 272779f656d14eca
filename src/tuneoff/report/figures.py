"""Charts as Vega-Lite through Altair: one chart serves the page and the PNG and SVG files.

Every function takes records and returns a chart, or None when no record holds anything to draw. Rows of data are plain
dictionaries inside the chart, so a chart is complete in itself. Colours come from `palette` alone: the page swaps them
by `palette.DARK` when the screen is dark.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import altair as alt

from tuneoff.report import chart_data, formatting
from tuneoff.report.company import of_clocks
from tuneoff.report.escaping import all_visible
from tuneoff.report.theme import BAND, GRID, INK, MUTED, PAPER, Cast
from tuneoff.results.run_record import Record, read_record

if TYPE_CHECKING:
    from tuneoff.report.folder import Crossover, SizeCurve

Cost = Literal["time", "memory", "size"]
COSTS: tuple[Cost, ...] = ("time", "memory", "size")

_FONT = "ui-sans-serif, system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
_STRIP = {"domain": False, "ticks": False}


def loss_curves(records: Sequence[Record], cast: Cast | None = None) -> Any | None:
    """Training and validation loss (nats per target token) over epochs, one panel a model: tokenizers differ, so
    losses of different models do not compare. Training is thin, validation bold; a ring marks the kept checkpoint; a
    method that trains nothing is a dashed line."""
    cast = cast or Cast(records)
    panels = []
    for model in cast.models:
        own = [record for record in records if record.spec.model.name == model]
        train = [row for record in own for row in chart_data.train_rows(record, cast)]
        validation = [row for record in own for row in chart_data.validation_rows(record, cast)]
        level = [row for record in own for row in chart_data.level_rows(record, cast)]
        if not (train or validation or level):
            continue
        x = alt.X("epoch:Q", title="epochs: passes over the training data", axis=alt.Axis(tickCount=6))
        y = alt.Y("loss:Q", title="loss, nats per target token", scale=alt.Scale(zero=False))
        tip = [
            alt.Tooltip("method:N", title="method"),
            alt.Tooltip("run:N", title="run"),
            alt.Tooltip("epoch:Q", title="epoch", format=".2f"),
            alt.Tooltip("loss:Q", title="loss", format=".4f"),
        ]
        colour = _colour(cast)
        layers = []
        if train:
            line = alt.Chart(_data(train)).mark_line(strokeWidth=1.1, opacity=0.4)
            layers.append(line.encode(x=x, y=y, color=colour, detail="run:N", tooltip=tip))
        if level:
            rule = alt.Chart(_data(level)).mark_rule(strokeDash=[5, 4], strokeWidth=2)
            layers.append(rule.encode(y=y, color=colour, tooltip=[tip[0], tip[1], tip[3]]))
        if validation:
            base = alt.Chart(_data(validation)).encode(x=x, y=y, color=colour, detail="run:N", tooltip=tip)
            layers += [base.mark_line(strokeWidth=2.4), base.mark_point(filled=True, size=42, opacity=1)]
            ring = base.transform_filter("datum.kept").mark_point(size=190, strokeWidth=1.8, filled=False, opacity=1)
            layers.append(ring)
        title = cast.shown[model] if len(cast.models) > 1 else None
        panels.append(alt.layer(*layers, **({"title": title} if title else {})).properties(width=620, height=300))
    return _finish(panels, columns=2, title="Loss", subtitle=_LOSS_KEY) if panels else None


_LOSS_KEY = "thin: training, bold: validation, ring: kept checkpoint, dashed: nothing trained"


def resource_bars(records: Sequence[Record], cast: Cast | None = None, *, note: str | None = None) -> Any | None:
    """What each method cost: one panel a resource, each with its own unit, mean over the finished runs. `note`: where
    its times come from."""
    cast = cast or Cast(records)
    panels = []
    for title, read, show in _RESOURCES:
        rows: list[dict[str, Any]] = []
        for place, member in enumerate(cast):
            own = [read(record) for record in records if record.status == "finished" and cast.of(record) == member]
            values = [value for value in own if value is not None]
            if values:
                mean = sum(values) / len(values)
                rows.append({"method": member.label, "place": place, "value": mean, "shown": show(mean)})
        if not rows or all(row["value"] == 0 for row in rows):
            continue
        # Room to the right of the longest bar for its number, also on a phone beside long labels.
        air = 1.7 if len(cast.models) == 1 else 2.2
        room = alt.Scale(domain=[0, max(row["value"] for row in rows) * air], nice=False)
        # By a field: a list of labels would become part of an expression, where no hostile text may stand.
        order = alt.EncodingSortField("place", op="min")
        y = alt.Y("method:N", sort=order, title=None, axis=alt.Axis(**_STRIP, labelLimit=170, labelColor=INK[0]))
        base = alt.Chart(_data(rows), title=title).encode(
            x=alt.X("value:Q", axis=None, scale=room),
            y=y,
            tooltip=[alt.Tooltip("method:N", title="method"), alt.Tooltip("shown:N", title=title.lower())],
        )
        bars = base.mark_bar(cornerRadiusEnd=3, height={"band": 0.62}).encode(color=_colour(cast, legend=False))
        text = base.mark_text(align="left", dx=6, color=INK[0], fontSize=12).encode(text="shown:N")
        panels.append(alt.layer(bars, text).properties(width=230, height=max(60, 26 * len(rows))))
    return _finish(panels, columns=3, title="Cost per run", subtitle=note) if panels else None


def timeline(records: Sequence[Record], cast: Cast | None = None) -> Any | None:
    """Memory, processor and accelerator use over the seconds of each run, as measured; runs that shared the machine are
    marked so. A single run shows its phases as bands."""
    cast = cast or Cast(records)
    points = [
        {
            "method": cast.of(record).label,
            "run": record.name,
            "seconds": round(point.seconds, 2),
            "phase": point.phase,
            "memory": round(point.memory_bytes / 1e9, 4),
            "cpu": round(point.cpu, 3),
            **({} if point.accelerator is None else {"accelerator": round(point.accelerator * 100, 1)}),
        }
        for record in records
        if record.resources is not None
        for point in chart_data.thin(record.resources.timeline)
    ]
    if not points:
        return None
    bands = chart_data.phases(records[0]) if len(records) == 1 else []
    panels = []
    for field, title in (("memory", "Memory, GB"), ("cpu", "Processor, cores in use"), ("accelerator", "GPU use, %")):
        rows = [row for row in points if field in row]
        if not rows:
            continue
        line = (
            alt.Chart(_data(rows))
            .mark_line(strokeWidth=1.8)
            .encode(
                x=alt.X("seconds:Q", title="seconds since the start of the run"),
                y=alt.Y(f"{field}:Q", title=None, scale=alt.Scale(domainMin=0, nice=True)),
                color=_colour(cast, legend=len(cast.members) > 1),
                detail="run:N",
                tooltip=[
                    alt.Tooltip("run:N", title="run"),
                    alt.Tooltip("phase:N", title="phase"),
                    alt.Tooltip("seconds:Q", title="second", format=".1f"),
                    alt.Tooltip(f"{field}:Q", title=title.lower(), format=".2f"),
                ],
            )
        )
        layers = [line]
        if bands:
            base = alt.Chart(_data(bands)).encode(x=alt.X("start:Q"))
            band = base.transform_filter("datum.shaded").mark_rect(color=BAND[0]).encode(x2="end:Q")
            name = base.transform_filter("datum.wide").mark_text(
                align="left", baseline="bottom", dx=2, dy=-3, color=MUTED[0], fontSize=11
            )
            name = name.encode(y=alt.value(0), text="phase:N")
            layers = [band, line, name]
        heading = alt.TitleParams(text=title, offset=24 if bands else 12)
        panels.append(alt.layer(*layers, title=heading).properties(width=620, height=190))
    return _finish(panels, columns=1, title="Resources over time", subtitle=of_clocks(records))


def quality_against(
    records: Sequence[Record],
    cost: Cost,
    cast: Cast | None = None,
    *,
    metric: str = "rouge1",
    intervals: Mapping[tuple[str, str], tuple[float, float]] | None = None,
    baselines: Mapping[str, float] | None = None,
    note: str | None = None,
) -> Any | None:
    """`metric` of each finished run against what it cost: seconds, peak bytes, or bytes of the artefact.

    `intervals` gives (low, high) of `metric` by (model, method), drawn as a bar; `baselines` are quality levels without
    a cost, drawn as dashed lines. `note`: where the times come from."""
    cast = cast or Cast(records)
    title, read, unit = _AXES[cost]
    rows = []
    for record in records:
        value, quality = read(record), record.scores.get(metric)
        if record.status != "finished" or value is None or quality is None:
            continue
        member = cast.of(record)
        low, high = (intervals or {}).get((member.model, member.method), (quality, quality))
        rows.append(
            {
                "method": member.label,
                "run": record.name,
                "cost": value / unit,
                "quality": quality,
                "low": low,
                "high": high,
                "shown": _SHOW[cost](value),
            }
        )
    if not rows:
        return None
    heading = f"{formatting.title(metric)} against {title.split(',')[0]}"
    scale = (
        alt.Scale(type="symlog", constant=1, padding=14, nice=False)
        if cost == "size"
        else alt.Scale(zero=cost == "time", padding=18)
    )
    axis = alt.Axis(values=[0, 1, 10, 100, 1000, 10_000, 100_000]) if cost == "size" else alt.Axis(tickCount=5)
    x = alt.X("cost:Q", title=title, scale=scale, axis=axis)
    y = alt.Y("quality:Q", title=formatting.title(metric), scale=alt.Scale(zero=False, padding=14))
    members = list(cast)
    shape = alt.Shape(
        "method:N",
        scale=alt.Scale(domain=[member.label for member in members], range=[member.shape for member in members]),
        legend=_legend(),
    )
    base = alt.Chart(_data(rows)).encode(x=x, color=_colour(cast))
    tip = [
        alt.Tooltip("method:N", title="method"),
        alt.Tooltip("run:N", title="run"),
        alt.Tooltip("quality:Q", title=formatting.title(metric), format=".2f"),
        alt.Tooltip("shown:N", title=title.split(",")[0]),
    ]
    layers = []
    if baselines:
        levels = [{"name": name, "quality": value} for name, value in baselines.items()]
        rule = alt.Chart(_data(levels)).encode(y=y, tooltip=[alt.Tooltip("name:N", title="baseline")])
        layers.append(rule.mark_rule(strokeDash=[3, 4], color=MUTED[0]))
    if intervals:
        layers.append(base.mark_rule(strokeWidth=1.6, opacity=0.6).encode(y=alt.Y("low:Q"), y2="high:Q"))
    if baselines:
        place = {"align": "right", "baseline": "bottom", "dy": -3, "fontSize": 11, "limit": 150}
        label = rule.encode(x=alt.value("width"), text="name:N")
        # Twice: a halo of paper keeps the name readable where it crosses an interval.
        layers += [label.mark_text(**place, stroke=PAPER[0], strokeWidth=4), label.mark_text(**place, color=MUTED[0])]
    layers.append(base.mark_point(filled=True, size=130, opacity=1).encode(y=y, shape=shape, tooltip=tip))
    return _finish([alt.layer(*layers).properties(width=420, height=300)], columns=1, title=heading, subtitle=note)


def data_sizes(curves: Sequence[SizeCurve], crossovers: Sequence[Crossover], cast: Cast, model: str) -> Any | None:
    """Quality over the amount of data, and beside it each method's gain over the anchor (zero-shot where it takes part,
    else the first method) with the band that holds for all pairs and amounts at once."""
    labels = {member.method: member.label for member in cast if member.model == model}
    shown = [curve for curve in curves if curve.method in labels]
    if not shown or len(shown[0].points) < 2:
        return None
    amounts = sorted({point.examples for curve in shown for point in curve.points})
    x = alt.X(
        "examples:Q",
        title="training examples",
        scale=alt.Scale(type="log", nice=False, padding=14),
        axis=alt.Axis(values=amounts, format=",d"),
    )
    rows = [
        {"method": labels[curve.method], "examples": point.examples, "quality": point.mean}
        for curve in shown
        for point in curve.points
    ]
    y = alt.Y("quality:Q", title="ROUGE-1", scale=alt.Scale(zero=False, padding=14))
    tip = [alt.Tooltip("method:N", title="method"), alt.Tooltip("examples:Q", title="examples", format=",d")]
    base = alt.Chart(_data(rows), title="Mean over seeds").encode(
        x=x, y=y, color=_colour(cast), tooltip=[*tip, alt.Tooltip("quality:Q", title="ROUGE-1", format=".2f")]
    )
    panels = [
        alt.layer(base.mark_line(strokeWidth=2), base.mark_point(filled=True, size=60, opacity=1)).properties(
            width=420, height=300
        )
    ]
    anchor = next((curve.method for curve in shown if curve.method == "zero_shot"), shown[0].method)
    gains = []
    for pair in crossovers:
        if anchor not in (pair.first, pair.second) or not {pair.first, pair.second} <= labels.keys():
            continue
        other, sign = (pair.first, 1) if pair.second == anchor else (pair.second, -1)
        gains += [
            {
                "method": labels[other],
                "examples": point.examples,
                "gain": sign * point.difference,
                "low": min(sign * point.low, sign * point.high),
                "high": max(sign * point.low, sign * point.high),
            }
            for point in pair.band
        ]
    if gains:
        heading = alt.TitleParams(
            text=f"Gain over {labels[anchor]}", subtitle="bands hold for all pairs and amounts at once"
        )
        drawn = alt.Chart(_data(gains), title=heading).encode(x=x, color=_colour(cast))
        band = drawn.mark_area(opacity=0.16).encode(
            y=alt.Y("low:Q", title="ROUGE-1 points"), y2="high:Q", fill=_fill(cast), detail="method:N"
        )
        line = drawn.mark_line(strokeWidth=2, point=True).encode(
            y="gain:Q", tooltip=[*tip, *(alt.Tooltip(f"{name}:Q", format=".2f") for name in ("gain", "low", "high"))]
        )
        zero = alt.Chart(_data([{"gain": 0}])).mark_rule(strokeDash=[3, 4], color=MUTED[0]).encode(y="gain:Q")
        panels.append(alt.layer(zero, band, line).properties(width=420, height=300))
    return _finish(panels, columns=2, title="Amount of data", subtitle=None)


def _fill(cast: Cast) -> Any:
    members = list(cast)
    scale = alt.Scale(domain=[member.label for member in members], range=[member.colour for member in members])
    return alt.Fill("method:N", scale=scale, legend=None)


def specification(chart: Any) -> dict[str, Any]:
    """The Vega-Lite specification of a chart, safe to draw whatever its labels hold."""
    plain: dict[str, Any] = all_visible(chart.to_dict())
    return plain


def write(chart: Any, folder: Path, name: str) -> list[Path]:
    """Write a chart as `<name>.png` (twice the nominal resolution) and `<name>.svg`; the paths."""
    import vl_convert

    drawing = specification(chart)
    folder.mkdir(parents=True, exist_ok=True)
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    picture = vl_convert.vegalite_to_svg(drawing)
    svg.write_text(picture, encoding="utf-8")
    png.write_bytes(vl_convert.svg_to_png(picture, scale=2))
    return [png, svg]


def run_figures(run_folder: Path) -> list[Path]:
    """Draw one run: `figures/loss.*` (training and validation) and `figures/resources.*` (memory, processor and, where
    there is one, GPU over time). Returns the files written; a chart without data is left out."""
    record = read_record(run_folder)
    charts = {"loss": loss_curves([record]), "resources": timeline([record])}
    folder = run_folder / "figures"
    return [path for name, chart in charts.items() if chart is not None for path in write(chart, folder, name)]


def _data(rows: list[dict[str, Any]]) -> Any:
    return {"values": rows}


def _legend() -> Any:
    return alt.Legend(title=None, orient="top", columns=4, symbolOpacity=1, symbolStrokeWidth=2.4)


def _colour(cast: Cast, *, legend: bool = True) -> Any:
    members = list(cast)
    scale = alt.Scale(domain=[member.label for member in members], range=[member.colour for member in members])
    return alt.Color("method:N", scale=scale, legend=_legend() if legend else None)


def _finish(panels: list[Any], *, columns: int, title: str, subtitle: str | None) -> Any:
    """Panels under one title with the report's look. The page breaks a concatenation into its panels again."""
    chart = panels[0] if len(panels) == 1 else alt.concat(*panels, columns=columns, spacing=28)
    lines = {"subtitle": textwrap.wrap(subtitle, 80)} if subtitle else {}
    return chart.properties(title=alt.TitleParams(text=title, **lines), background=PAPER[0], padding=14).configure(
        **_CONFIG
    )


_CONFIG: dict[str, Any] = {
    "font": _FONT,
    "view": alt.ViewConfig(stroke=None),
    "axis": alt.AxisConfig(
        labelColor=MUTED[0],
        titleColor=MUTED[0],
        titleFontWeight="normal",
        titlePadding=10,
        labelFontSize=11.5,
        titleFontSize=12,
        gridColor=GRID[0],
        domainColor=GRID[0],
        tickColor=GRID[0],
        labelPadding=6,
    ),
    "axisX": alt.AxisConfig(grid=False),
    "axisY": alt.AxisConfig(domain=False, ticks=False, tickCount=5),
    "legend": alt.LegendConfig(labelColor=INK[0], labelFontSize=12, labelLimit=260, symbolSize=90, columnPadding=18),
    "title": alt.TitleConfig(
        anchor="start", color=INK[0], subtitleColor=MUTED[0], fontSize=13, subtitleFontSize=11.5, offset=12
    ),
    "concat": alt.CompositionConfig(spacing=28),
}


_RESOURCES = (
    ("Training time", lambda record: chart_data.phase_seconds(record, "train"), formatting.seconds),
    ("Generation time", lambda record: chart_data.phase_seconds(record, "generate"), formatting.seconds),
    ("Peak memory", chart_data.peak_bytes, formatting.size),
    ("Size on disk", chart_data.artefact_bytes, formatting.size),
    ("Trainable parameters", chart_data.trainable, formatting.count),
    ("Energy", chart_data.joules, formatting.energy),
)
_AXES = {
    "time": ("time of the whole run, minutes", chart_data.all_seconds, 60.0),
    "memory": ("peak memory, GB", chart_data.peak_bytes, 1e9),
    "size": ("size on disk, MB", chart_data.artefact_bytes, 1e6),
}
_SHOW = {"time": formatting.seconds, "memory": formatting.size, "size": formatting.size}
