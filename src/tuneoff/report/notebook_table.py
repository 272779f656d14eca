"""A summary as a piece of HTML, for notebooks. Names and titles may come from strangers, so they are escaped."""

from collections.abc import Iterable
from html import escape

from tuneoff.report import formatting
from tuneoff.report.table import first_metrics
from tuneoff.results.cost_axes import COST_AXES
from tuneoff.results.summary import Summary


def study_html(summary: Summary) -> str:
    """Table and verdict of a study."""
    axes = [axis for axis in COST_AXES if any(row.cost(axis.name) is not None for row in summary.rows)]
    shown = first_metrics(summary.primary_metric)
    several = len({row.model for row in summary.rows if row.model}) > 1
    headings = ["method", *(["model"] if several else []), *map(formatting.metric_title, shown), "gain"]
    lines = [_line("th", [*headings, *(axis.title for axis in axes)])]
    for row in summary.rows:
        cells = [row.title, *([row.model or ""] if several else [])]
        cells += [formatting.format_score(metric, row.score(metric).mean) for metric in shown]
        cells.append(formatting.format_score(shown[0], row.gain.mean if row.gain else None, signed=True))
        cells += [formatting.format_cost(axis.name, row.cost(axis.name)) for axis in axes]
        lines.append(_line("td", cells))
    said = (*(f"Caution: {caution}" for caution in summary.cautions), *summary.sentences)
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in said)
    return f"<h3>{escape(summary.name)}</h3><table>{''.join(lines)}</table>{sentences}"


def _line(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
