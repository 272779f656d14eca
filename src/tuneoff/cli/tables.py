"""What a study found, as a table for the terminal."""

import io

from tuneoff.report.formatting import format_cost, format_score, metric_title
from tuneoff.report.table import QUALITY
from tuneoff.results.cost_axes import COST_AXES
from tuneoff.results.summary import Summary
from tuneoff.text import sanitize

# As much as fits in a terminal; the report shows everything.
SHOWN_COSTS = 4
SHOWN_SENTENCES = 3


def summary_as_text(summary: Summary) -> str:
    """Scores, gain over zero-shot and costs of each row; then the first sentences of the verdict, and confounds."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    axes = [axis for axis in COST_AXES if any(row.cost(axis.name) is not None for row in summary.rows)][:SHOWN_COSTS]
    several_models = len({row.model for row in summary.rows if row.model}) > 1
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method")
    if several_models:
        table.add_column("model")
    for name in [*(metric_title(metric) for metric in QUALITY), "gain", *(axis.title for axis in axes)]:
        table.add_column(name, justify="right")
    for row in summary.rows:
        cells = [sanitize(row.title)]
        if several_models:
            cells.append(sanitize(row.model or ""))
        cells += [format_score(metric, row.score(metric).mean) for metric in QUALITY]
        cells.append(format_score(QUALITY[0], row.gain.mean if row.gain else None, signed=True))
        cells += [format_cost(axis.name, row.cost(axis.name)) for axis in axes]
        table.add_row(*(Text(cell) for cell in cells))
    console = Console(record=True, file=io.StringIO(), width=1000)
    console.print(table)
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    confounds = [
        f"{'CAUTION' if one.changes_scores else 'note'}: {f'{one.model}: ' if several_models else ''}{one.description}"
        for one in summary.confounds
    ]
    return "\n".join([*lines, *map(sanitize, (*summary.sentences[:SHOWN_SENTENCES], *confounds))])
