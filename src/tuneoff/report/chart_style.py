"""How every chart looks: colours of methods, legends, fonts, and panels under one title."""

import textwrap
from collections.abc import Iterable
from typing import Any

import altair as alt

from tuneoff.report.theme import GRID, INK, MUTED, PAPER, MethodStyles

_FONT = "ui-sans-serif, system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"


def inline_data(rows: list[dict[str, Any]]) -> Any:
    """Rows inside the specification: a chart contains its data."""
    return {"values": rows}


def method_legend() -> Any:
    """The legend of methods."""
    return alt.Legend(title=None, orient="top", columns=4, symbolOpacity=1, symbolStrokeWidth=2.4)


def colour(styles: MethodStyles, *, legend: bool = True) -> Any:
    """The colour of a method."""
    return alt.Color("method:N", scale=colour_scale(styles), legend=method_legend() if legend else None)


def colour_scale(styles: MethodStyles) -> Any:
    """Method -> colour."""
    return alt.Scale(domain=[style.label for style in styles], range=[style.colour for style in styles])


def scale_around(values: Iterable[float], padding: float = 0) -> Any:
    """A linear scale of values that may be far from 0. Of a single value, Vega would label a rounded one instead."""
    low, high = min(found := [*values]), max(found)
    room = 0.05 * abs(low) or 1
    return alt.Scale(zero=False, padding=padding, **({"domain": [low - room, high + room]} if low == high else {}))


def styled(panels: list[Any], *, columns: int = 1, title: str, subtitle: str | None = None) -> Any:
    """Panels under one title, in the style of the report. The page splits a concatenation into its panels again."""
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


def fill(styles: MethodStyles) -> Any:
    """The colour of an area."""
    return alt.Fill("method:N", scale=colour_scale(styles), legend=None)
