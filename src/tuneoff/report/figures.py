"""Charts of runs as Vega-Lite through Altair; the page and the PNG and SVG files use the same chart.

Every function returns an Altair chart, or None if there is nothing to draw. A chart contains its data. All colours come
from `theme`, so that the page can replace them by `theme.DARK` on a dark screen.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import altair as alt

from tuneoff.report import chart_data, formatting
from tuneoff.report.chart_style import colour, inline_data, method_legend, scale_around, styled
from tuneoff.report.escaping import escape_all_controls
from tuneoff.report.pictures import Pictures, draw_pictures
from tuneoff.report.theme import BAND, INK, MUTED, PAPER, MethodStyles
from tuneoff.results.cost_axes import COST_AXES
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_record import Record
from tuneoff.results.summary import Interval
from tuneoff.verdict.costs import costs_of

Against = Literal["time", "memory", "size"]
AGAINST: tuple[Against, ...] = ("time", "memory", "size")

_STRIP = {"domain": False, "ticks": False}


def loss_curves(records: Sequence[Record], styles: MethodStyles | None = None) -> Any | None:
    """Training and validation loss (nats per target token) over epochs.

    One panel for each base model: tokenizers differ, so losses of different models cannot be compared. Training loss is
    thin, validation loss bold. A ring marks the best checkpoint; a method that trains nothing is a dashed line.
    """
    styles = styles or MethodStyles(records)
    most = chart_data.points_each(chart_data.CURVE_POINTS, len(records))
    panels = []
    for model in styles.models:
        own = [record for record in records if record.spec.model.name == model]
        train = [row for record in own for row in chart_data.train_rows(record, styles, most)]
        validation = [row for record in own for row in chart_data.validation_rows(record, styles, most)]
        level = [row for record in own for row in chart_data.level_rows(record, styles)]
        if not (train or validation or level):
            continue
        x = alt.X("epoch:Q", title="epochs: passes over the training data", axis=alt.Axis(tickCount=6))
        y = alt.Y(
            "loss:Q",
            title="loss, nats per target token",
            scale=scale_around(row["loss"] for row in (*train, *validation, *level)),
        )
        tip = [
            alt.Tooltip("method:N", title="method"),
            alt.Tooltip("run:N", title="run"),
            alt.Tooltip("epoch:Q", title="epoch", format=".2f"),
            alt.Tooltip("loss:Q", title="loss", format=".4f"),
        ]
        hue = colour(styles)
        layers = []
        if train:
            line = alt.Chart(inline_data(train)).mark_line(strokeWidth=1.1, opacity=0.4)
            layers.append(line.encode(x=x, y=y, color=hue, detail="run:N", tooltip=tip))
        if level:
            rule = alt.Chart(inline_data(level)).mark_rule(strokeDash=[5, 4], strokeWidth=2)
            layers.append(rule.encode(y=y, color=hue, tooltip=[tip[0], tip[1], tip[3]]))
        if validation:
            base = alt.Chart(inline_data(validation)).encode(x=x, y=y, color=hue, detail="run:N", tooltip=tip)
            layers += [base.mark_line(strokeWidth=2.4), base.mark_point(filled=True, size=42, opacity=1)]
            ring = base.transform_filter("datum.kept").mark_point(size=190, strokeWidth=1.8, filled=False, opacity=1)
            layers.append(ring)
        title = styles.short_names[model] if len(styles.models) > 1 else None
        panels.append(alt.layer(*layers, **({"title": title} if title else {})).properties(width=620, height=300))
    return styled(panels, columns=2, title="Loss", subtitle=_LOSS_KEY) if panels else None


_LOSS_KEY = "thin: training, bold: validation, ring: best checkpoint, dashed: nothing trained"


def cost_bars(records: Sequence[Record], styles: MethodStyles | None = None, *, note: str | None = None) -> Any | None:
    """Costs of each method, as means over its finished runs; one panel for each axis. `note`: where times come from."""
    styles = styles or MethodStyles(records)
    panels = []
    costs = []
    for style in styles:
        own = [record for record in records if record.status == "finished" and styles.of(record) == style]
        if own:
            costs.append((style.label, costs_of(own)))
    for axis in COST_AXES:
        if axis.better == "more":  # a speed is not a cost
            continue
        rows: list[dict[str, Any]] = [
            {"method": label, "index": index, "value": value, "shown": formatting.format_cost(axis.name, value)}
            for index, (label, found) in enumerate(costs)
            if (value := found[axis.name].value) is not None
        ]
        if not rows or all(row["value"] == 0 for row in rows):
            continue
        # Space to the right of the longest bar for its number, also on a phone with long labels.
        space = 1.7 if len(styles.models) == 1 else 2.2
        scale = alt.Scale(domain=[0, max(row["value"] for row in rows) * space], nice=False)
        # Sorted by a field: a list of labels would become part of an expression, which untrusted text must not enter.
        order = alt.EncodingSortField("index", op="min")
        y = alt.Y("method:N", sort=order, title=None, axis=alt.Axis(**_STRIP, labelLimit=170, labelColor=INK[0]))
        base = alt.Chart(inline_data(rows), title=axis.heading).encode(
            x=alt.X("value:Q", axis=None, scale=scale),
            y=y,
            tooltip=[alt.Tooltip("method:N", title="method"), alt.Tooltip("shown:N", title=axis.title)],
        )
        bars = base.mark_bar(cornerRadiusEnd=3, height={"band": 0.62}).encode(color=colour(styles, legend=False))
        text = base.mark_text(align="left", dx=6, color=INK[0], fontSize=12).encode(text="shown:N")
        panels.append(alt.layer(bars, text).properties(width=230, height=max(60, 26 * len(rows))))
    return styled(panels, columns=3, title="Cost per run", subtitle=note) if panels else None


def timeline(records: Sequence[Record], styles: MethodStyles | None = None) -> Any | None:
    """Memory, processor and accelerator use over the seconds of each run, as measured.

    The subtitle reports concurrent runs. A single run shows its phases as bands.
    """
    styles = styles or MethodStyles(records)
    most = chart_data.points_each(chart_data.TIMELINE_POINTS, len(records))
    points = [
        {
            "method": styles.of(record).label,
            "run": record.name,
            "seconds": round(point.seconds, 2),
            "phase": point.phase,
            "memory": round(point.memory_bytes / 1e9, 4),
            "cpu": round(point.cpu, 3),
            **({} if point.accelerator is None else {"accelerator": round(point.accelerator * 100, 1)}),
        }
        for record in records
        if record.resources is not None
        for point in chart_data.thinned(record.resources.timeline, most)
    ]
    if not points:
        return None
    bands = chart_data.phase_rows(records[0]) if len(records) == 1 else []
    panels = []
    for field, title in (("memory", "Memory, GB"), ("cpu", "Processor, cores in use"), ("accelerator", "GPU use, %")):
        rows = [row for row in points if field in row]
        if not rows:
            continue
        line = (
            alt.Chart(inline_data(rows))
            .mark_line(strokeWidth=1.8)
            .encode(
                x=alt.X("seconds:Q", title="seconds since the start of the run"),
                y=alt.Y(f"{field}:Q", title=None, scale=alt.Scale(domainMin=0, nice=True)),
                color=colour(styles, legend=len(styles) > 1),
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
            base = alt.Chart(inline_data(bands)).encode(x=alt.X("start:Q"))
            band = base.transform_filter("datum.shaded").mark_rect(color=BAND[0]).encode(x2="end:Q")
            name = base.transform_filter("datum.wide").mark_text(
                align="left", baseline="bottom", dx=2, dy=-3, color=MUTED[0], fontSize=11
            )
            name = name.encode(y=alt.value(0), text="phase:N")
            layers = [band, line, name]
        heading = alt.TitleParams(text=title, offset=24 if bands else 12)
        panels.append(alt.layer(*layers, title=heading).properties(width=620, height=190))
    return styled(panels, columns=1, title="Resources over time", subtitle=chart_data.timeline_note(records))


def quality_against(
    records: Sequence[Record],
    cost: Against,
    styles: MethodStyles | None = None,
    *,
    metric: str = "rouge1",
    means: Mapping[tuple[str, str], Interval] | None = None,
    baselines: Mapping[str, float] | None = None,
    note: str | None = None,
) -> Any | None:
    """`metric` of each finished run against its total time, peak memory or size on disk.

    Args:
        records: runs of the study.
        cost: the horizontal axis.
        styles: how methods are drawn.
        metric: the vertical axis.
        means: `metric` by (model, method), of methods with one run: over the documents that are compared, of which the
            run may have scored more. Drawn instead of the run's own score, with the interval as a vertical line.
        baselines: scores without a cost, drawn as dashed lines.
        note: where times come from.
    """
    styles = styles or MethodStyles(records)
    title, read, unit = _AXES[cost]
    rows: list[dict[str, Any]] = []
    for record in records:
        style = styles.of(record)
        mean = (means or {}).get((style.model, style.method), Interval(mean=record.scores.get(metric)))
        value, quality = read(record), mean.mean
        if record.status != "finished" or value is None or quality is None:
            continue
        rows.append(
            {
                "method": style.label,
                "run": record.name,
                "cost": value / unit,
                "quality": quality,
                "low": quality if mean.low is None else mean.low,
                "high": quality if mean.high is None else mean.high,
                "shown": _FORMATS[cost](value),
            }
        )
    if not rows:
        return None
    heading = f"{formatting.metric_title(metric)} against {title.split(',')[0]}"
    scale = (
        alt.Scale(type="symlog", constant=1, padding=14, nice=False)
        if cost == "size"
        else alt.Scale(zero=cost == "time", padding=18)
    )
    axis = alt.Axis(values=[0, 1, 10, 100, 1000, 10_000, 100_000]) if cost == "size" else alt.Axis(tickCount=5)
    x = alt.X("cost:Q", title=title, scale=scale, axis=axis)
    bounds = [row[name] for row in rows for name in ("low", "quality", "high")]
    scale_of_quality = scale_around((*bounds, *(baselines or {}).values()), padding=14)
    y = alt.Y("quality:Q", title=formatting.metric_title(metric), scale=scale_of_quality)
    shape = alt.Shape(
        "method:N",
        scale=alt.Scale(domain=[style.label for style in styles], range=[style.shape for style in styles]),
        legend=method_legend(),
    )
    base = alt.Chart(inline_data(rows)).encode(x=x, color=colour(styles))
    tip = [
        alt.Tooltip("method:N", title="method"),
        alt.Tooltip("run:N", title="run"),
        alt.Tooltip("quality:Q", title=formatting.metric_title(metric), format=".2f"),
        alt.Tooltip("shown:N", title=title.split(",")[0]),
    ]
    layers = []
    if baselines:
        levels = [{"name": name, "quality": value} for name, value in baselines.items()]
        rule = alt.Chart(inline_data(levels)).encode(y=y, tooltip=[alt.Tooltip("name:N", title="baseline")])
        layers.append(rule.mark_rule(strokeDash=[3, 4], color=MUTED[0]))
    if any(row["low"] < row["high"] for row in rows):
        layers.append(base.mark_rule(strokeWidth=1.6, opacity=0.6).encode(y=alt.Y("low:Q"), y2="high:Q"))
    if baselines:
        position = {"align": "right", "baseline": "bottom", "dy": -3, "fontSize": 11, "limit": 150}
        label = rule.encode(x=alt.value("width"), text="name:N")
        # Twice: an outline in the colour of the paper keeps the name readable where it crosses an interval.
        layers += [
            label.mark_text(**position, stroke=PAPER[0], strokeWidth=4),
            label.mark_text(**position, color=MUTED[0]),
        ]
    layers.append(base.mark_point(filled=True, size=130, opacity=1).encode(y=y, shape=shape, tooltip=tip))
    return styled([alt.layer(*layers).properties(width=420, height=300)], columns=1, title=heading, subtitle=note)


def specification(chart: Any) -> dict[str, Any]:
    """The Vega-Lite specification of a chart. Its labels may be untrusted text.

    It is not checked against the schema, which would take most of the time. The tests check every chart.
    """
    plain: dict[str, Any] = escape_all_controls(chart.to_dict(validate=False))
    return plain


def save_charts(specifications: Mapping[str, Any], folder: Path) -> Pictures:
    """Write charts by name as `<name>.png` and `<name>.svg`."""
    return draw_pictures(specifications, folder)


def run_figures(run: StoredRun) -> Pictures:
    """Draw one run into its folder: `figures/loss.*` and `figures/resources.*`. A chart without data is skipped."""
    charts = {"loss": loss_curves([run.record]), "resources": timeline([run.record])}
    drawn = {name: specification(chart) for name, chart in charts.items() if chart is not None}
    return save_charts(drawn, run.dir.path / "figures")


_AXES = {
    "time": ("time of the whole run, minutes", chart_data.total_seconds, 60.0),
    "memory": ("peak memory, GB", chart_data.peak_bytes, 1e9),
    "size": ("size on disk, MB", chart_data.artefact_bytes, 1e6),
}
_FORMATS = {"time": formatting.format_seconds, "memory": formatting.format_bytes, "size": formatting.format_bytes}
