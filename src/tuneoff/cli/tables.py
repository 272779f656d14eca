"""What a study found, as a table for the terminal."""

import io
from collections.abc import Sequence

from tuneoff.report.formatting import format_cost, format_interval, format_score, metric_title
from tuneoff.report.table import first_metrics
from tuneoff.results.cost_axes import COST_AXES
from tuneoff.results.summary import Interval, Summary
from tuneoff.text import sanitize

# As much as fits in a terminal; the report shows everything.
SHOWN_COSTS = 4
SHOWN_SENTENCES = 3
SHOWN_FINDINGS = 3
# Findings that the first lines say already.
_SAID_FIRST = ("study", "data")


def summary_as_text(summary: Summary) -> str:
    """Scores, gain over zero-shot and costs of each row, with their 95 % intervals.

    Then cautions, the first sentences of the verdict, those on its looks, confounds and the first findings of the
    diagnostics.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    axes = [axis for axis in COST_AXES if any(row.cost(axis.name) is not None for row in summary.rows)][:SHOWN_COSTS]
    several_models = len({row.model for row in summary.rows if row.model}) > 1
    metrics = first_metrics(summary.primary_metric)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method")
    if several_models:
        table.add_column("model")
    for name in [*(metric_title(metric) for metric in metrics), "gain", *(axis.title for axis in axes)]:
        table.add_column(name, justify="right")
    for row in summary.rows:
        cells = [sanitize(row.title)]
        if several_models:
            cells.append(sanitize(row.model or ""))
        cells += [_with_interval(metric, row.score(metric)) for metric in metrics[:1]]
        cells += [format_score(metric, row.score(metric).mean) for metric in metrics[1:]]
        cells.append(_with_interval(metrics[0], row.gain or Interval(), signed=True))
        cells += [format_cost(axis.name, row.cost(axis.name)) for axis in axes]
        table.add_row(*(Text(cell) for cell in cells))
    console = Console(record=True, file=io.StringIO(), width=1000)
    console.print(table)
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    confounds = [
        f"{'CAUTION' if one.changes_scores else 'note'}: {f'{one.model}: ' if several_models else ''}{one.description}"
        for one in summary.confounds
    ]
    cautions = [f"CAUTION: {caution}" for caution in summary.cautions]
    first = summary.sentences[:SHOWN_SENTENCES]
    said = (*cautions, *first, *_looks(summary, first), *confounds, *_findings(summary))
    return "\n".join([*lines, *map(sanitize, said)])


def _looks(summary: Summary, said: Sequence[str]) -> list[str]:
    """What was decided at which look, and what that saved."""
    found = []
    for verdict in summary.verdicts:
        where = f"{verdict.block}: " if verdict.block else ""
        found += [f"{where}{sentence}" for sentence in (verdict.looks.sentences if verdict.looks else ())]
    return [sentence for sentence in found if sentence not in said]


def _with_interval(metric: str, value: Interval, *, signed: bool = False) -> str:
    """`42.1 (40.9 to 43.3)`."""
    text = format_score(metric, value.mean, signed=signed)
    interval = format_interval(metric, value, signed=signed)
    return f"{text} ({interval})" if interval else text


def _findings(summary: Summary) -> list[str]:
    """The first findings of the diagnostics; the report has all of them."""
    found = [finding for finding in summary.diagnostics if finding.check not in _SAID_FIRST]
    lines = [f"diagnostics: {finding.where}: {finding.message}" for finding in found[:SHOWN_FINDINGS]]
    more = len(found) - len(lines)
    return [*lines, *([f"diagnostics: and {more} more in the report"] if more else [])]
