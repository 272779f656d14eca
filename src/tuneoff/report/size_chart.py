"""The chart of data sizes: quality and gain over the amount of data, with the bands in which methods cross over."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from tuneoff.report import chart_data, formatting
from tuneoff.report.chart_style import colour, fill, inline_data, styled
from tuneoff.report.theme import BAND, MUTED, MethodStyles
from tuneoff.results.summary import Crossover, SizeCurve


def data_size_curves(
    curves: Sequence[SizeCurve], crossovers: Sequence[Crossover], styles: MethodStyles, model: str, metric: str
) -> Any | None:
    """Quality over the amount of data; in a second panel the gain over an anchor with simultaneous bands.

    The anchor is zero-shot if the study has it, otherwise the first method. The amount is the number of examples that
    training read; the fraction of the data, if training read the same number at two fractions.
    """
    name = formatting.metric_title(metric)
    labels = {style.method: style.label for style in styles if style.model == model}
    shown = [curve for curve in curves if curve.method in labels]
    if not shown or len(shown[0].points) < 2:
        return None
    read = {point.fraction: point.examples for curve in shown for point in curve.points}
    by_examples = chart_data.has_distinct_amounts(shown)
    amount_of = {fraction: examples if by_examples else 100 * fraction for fraction, examples in read.items()}
    title, digits = ("training examples that were read", ",d") if by_examples else ("% of the training data", "~g")

    def amount(field: str) -> Any:
        axis = alt.Axis(values=sorted(amount_of.values()), format=digits)
        return alt.X(f"{field}:Q", title=title, scale=alt.Scale(type="log", nice=False, padding=14), axis=axis)

    x = amount("examples")
    rows = [
        {"method": labels[curve.method], "examples": amount_of[point.fraction], "quality": point.mean}
        for curve in shown
        for point in curve.points
    ]
    y = alt.Y("quality:Q", title=name, scale=alt.Scale(zero=False, padding=14))
    tip = [alt.Tooltip("method:N", title="method"), alt.Tooltip("examples:Q", title=title, format=digits)]
    base = alt.Chart(inline_data(rows), title="Mean over seeds").encode(
        x=x, y=y, color=colour(styles), tooltip=[*tip, alt.Tooltip("quality:Q", title=name, format=".2f")]
    )
    lines = [base.mark_line(strokeWidth=2), base.mark_point(filled=True, size=60, opacity=1)]
    changes = _crossover_bands(crossovers, labels, amount("from"), title) if by_examples else []
    panels = [alt.layer(*changes, *lines).properties(width=420, height=300)]
    anchor = chart_data.anchor_of(shown)
    gains = [
        {
            "method": labels[gain.method],
            "examples": amount_of[point.fraction],
            "gain": point.difference,
            "low": point.low,
            "high": point.high,
        }
        for gain in chart_data.gains_over(anchor, crossovers, labels)
        for point in gain.band
    ]
    if gains:
        heading = alt.TitleParams(
            text=f"Gain over {labels[anchor]}", subtitle="bands hold for all pairs and amounts at once"
        )
        drawn = alt.Chart(inline_data(gains), title=heading).encode(x=x)
        band = drawn.mark_area(opacity=0.16).encode(
            y=alt.Y("low:Q", title=f"gain in {name}"), y2="high:Q", fill=fill(styles), detail="method:N"
        )
        line = drawn.mark_line(strokeWidth=2, point=True).encode(
            y="gain:Q",
            color=colour(styles),
            tooltip=[*tip, *(alt.Tooltip(f"{name}:Q", format=".2f") for name in ("gain", "low", "high"))],
        )
        zero = alt.Chart(inline_data([{"gain": 0}])).mark_rule(strokeDash=[3, 4], color=MUTED[0]).encode(y="gain:Q")
        panels.append(alt.layer(zero, band, line).properties(width=420, height=300))
    return styled(panels, columns=2, title="Amount of data", subtitle=None)


def _crossover_bands(crossovers: Sequence[Crossover], labels: Mapping[str, str], x: Any, title: str) -> list[Any]:
    """Layers behind the curves: the amounts between which the better method of a pair is shown to change."""
    layers: list[Any] = []
    for words, low, high in chart_data.changes_of_order(crossovers, labels):
        rows = [{"from": low, "to": high, "change": words, "between": f"{low:,} to {high:,}"}]
        drawn = alt.Chart(inline_data(rows)).encode(x=x)
        tip = [alt.Tooltip("change:N", title="crossover"), alt.Tooltip("between:N", title=title)]
        layers.append(drawn.mark_rect(color=BAND[0], opacity=0.8).encode(x2="to:Q", tooltip=tip))
        # Several names are below each other.
        position = {"align": "left", "baseline": "top", "dx": 3, "dy": 2 + 14 * (len(layers) // 2), "fontSize": 11}
        text = drawn.mark_text(**position, color=MUTED[0], limit=260)
        layers.append(text.encode(y=alt.value(0), text="change:N"))
    return layers
