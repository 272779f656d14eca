"""The results table for papers and other programs: LaTeX, Markdown and CSV.

Titles and names may come from strangers. Markup in them is escaped, and a cell that a spreadsheet would compute is made
text.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence

from tuneoff.report import formatting
from tuneoff.report.latex import escape_latex
from tuneoff.report.table import ResultsTable, TableCell, TableRow
from tuneoff.results.cost_axes import COST_AXES, CostAxis
from tuneoff.results.summary import Interval, Summary
from tuneoff.text import sanitize

# What fits on a page; the CSV has all.
_PAPER_COSTS = ("train_seconds", "peak_memory_bytes", "artefact_bytes")
# A spreadsheet computes cells that begin so, also after white space (CWE-1236). In many countries it also begins a cell
# at each semicolon.
_FORMULA = re.compile(r"(?:^|;)(?=\s*[=+\-@＝＋－＠]|[\t\r\n])")
_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>|#~&]")


def as_csv(summary: Summary) -> str:
    """One row for each method, baseline and outside system: means, bounds of intervals, and costs in their units.

    A text that begins with a sign of a formula gets an apostrophe in front; numbers stay numbers.
    """
    metrics = list(dict.fromkeys(name for row in summary.rows for name in row.scores))
    ends = ("", "_low", "_high")
    headings = ["name", "title", "kind", "model", "seeds"]
    headings += [f"{_harmless(name)}{end}" for name in (*metrics, "gain") for end in ends]
    headings += ["validation_loss", *(axis.name for axis in COST_AXES)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(headings)
    for row in summary.rows:
        about = [_harmless(text) for text in (row.name, row.title, row.kind, row.model or "")]
        numbers = [value for name in metrics for value in _ends(row.score(name))]
        numbers += [*_ends(row.gain or Interval()), row.validation_loss, *(row.cost(axis.name) for axis in COST_AXES)]
        writer.writerow([*about, row.compared_seeds, *("" if value is None else value for value in numbers)])
    return out.getvalue()


def _ends(value: Interval) -> tuple[float | None, float | None, float | None]:
    return value.mean, value.low, value.high


def _harmless(text: str) -> str:
    return sanitize(_FORMULA.sub(lambda found: f"{found[0]}'", text))


def as_markdown(table: ResultsTable) -> str:
    """The table of a README or an issue."""
    headings = ["Method", *_score_headings(table), *(axis.heading for axis in _costs(table))]
    lines = [_pipes(map(escape_markdown, headings)), _pipes(["---", *("---:" for _ in headings[1:])])]
    for title, rows in _blocks(table):
        if title:
            lines.append(_pipes([f"*{escape_markdown(title)}*", *("" for _ in headings[1:])]))
        for row in rows:
            cells = [_markdown_cell(cell, detail=detail) for cell, detail in _cells(row, table)]
            lines.append(_pipes([escape_markdown(row.title), *cells]))
    return "\n".join(lines) + "\n"


def _pipes(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape_markdown(text: str) -> str:
    """One line that Markdown shows as it is."""
    return _MARKDOWN.sub(lambda found: f"\\{found[0]}", sanitize(" ".join(text.split())))


def _markdown_cell(cell: TableCell, *, detail: bool) -> str:
    text = f"**{cell.text}**" if cell.best else cell.text
    return f"{text} ({cell.detail})" if detail and cell.detail else text


def as_latex(table: ResultsTable, name: str) -> str:
    """The table of a paper, for the package `booktabs`. `name`: of the study, for the caption."""
    costs = _costs(table)
    headings = ["Method", *_score_headings(table), *(axis.heading for axis in costs)]
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\footnotesize\setlength{\tabcolsep}{1.8pt}",
        rf"\caption{{{_caption(table, name)}}}",
        rf"\label{{{latex_label(name)}}}",
        rf"\begin{{tabular}}{{@{{}}l{'r' * (len(headings) - 1)}@{{}}}}",
        r"\toprule",
        " & ".join(map(_latex_heading, headings)) + r" \\",
    ]
    for title, rows in _blocks(table):
        lines.append(r"\midrule")
        if title:
            lines.append(rf"\multicolumn{{{len(headings)}}}{{l}}{{\emph{{{escape_latex(title)}}}}} \\")
        for row in rows:
            cells = _cells(row, table)
            lines.append(" & ".join([escape_latex(row.title), *(_latex_cell(cell) for cell, _ in cells)]) + r" \\")
            details = [
                rf"{{\tiny {escape_latex(cell.detail)}}}" if shown and cell.detail else "" for cell, shown in cells
            ]
            if any(cell.detail for cell, shown in cells if shown):
                lines.append(" & ".join(["", *details]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def latex_label(name: str) -> str:
    """The label of the table of the study `name`."""
    return f"tab:{re.sub(r'[^A-Za-z0-9-]', '-', name)}"


def _latex_heading(heading: str) -> str:
    """On two lines: numbers are narrower than what they are called."""
    first, _, rest = escape_latex(heading).partition(" ")
    return rf"{{\scriptsize \shortstack[r]{{{first}\\{rest}}}}}" if rest else rf"{{\scriptsize {first}}}"


def _latex_cell(cell: TableCell) -> str:
    text = escape_latex(cell.text)
    return rf"\textbf{{{text}}}" if cell.best else text


def _caption(table: ResultsTable, name: str) -> str:
    metric = formatting.metric_title(table.primary)
    return escape_latex(
        f"Results of the study {name}. Below the scores: 95 % intervals; those of the gain in {metric} over zero-shot "
        "hold for all pairs of methods at once. Bold: the best mean, and the least cost above zero."
    )


def _costs(table: ResultsTable) -> tuple[CostAxis, ...]:
    return tuple(axis for axis in table.costs if axis.name in _PAPER_COSTS)


def _score_headings(table: ResultsTable) -> list[str]:
    return [*(formatting.metric_title(name) for name in (table.primary, *table.quality)), "Gain"]


def _blocks(table: ResultsTable) -> list[tuple[str | None, Sequence[TableRow]]]:
    """The methods on each base model, then baselines and outside systems."""
    blocks = [(block.title, block.rows) for block in table.blocks]
    return [*blocks, *([(None, table.others)] if table.others else [])]


def _cells(row: TableRow, table: ResultsTable) -> list[tuple[TableCell, bool]]:
    """The cells after the title, each with whether its interval is shown."""
    shown = {axis.name for axis in _costs(table)}
    costs = [cell for axis, cell in zip(table.costs, row.costs, strict=False) if axis.name in shown]
    return [
        (row.primary, True),
        *((cell, False) for cell in row.quality),
        (row.gain, True),
        *((one, False) for one in costs),
    ]
