"""What a paper or a program takes from a study: the table, the paragraph on methods, the bibliography."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from tuneoff.errors import UserError
from tuneoff.report.bibliography import as_bibtex
from tuneoff.report.formatting import metric_title
from tuneoff.report.latex import escape_latex
from tuneoff.report.methods_text import MethodsText, methods_text
from tuneoff.report.study_charts import compared_runs, method_styles
from tuneoff.report.table import ResultsTable, build_table
from tuneoff.report.table_formats import as_csv, as_latex, as_markdown, escape_markdown, latex_label
from tuneoff.results.study_dir import StoredStudy
from tuneoff.results.summary import Summary
from tuneoff.spec import StudySpec
from tuneoff.text import did_you_mean

_DOCUMENT = r"""% Made by tuneoff {version}. Compile this file with pdflatex, bibtex, pdflatex, pdflatex.
\begin{{filecontents*}}[overwrite]{{tuneoff-study.bib}}
{bibtex}\end{{filecontents*}}
\documentclass{{article}}
\usepackage{{iftex}}
\ifPDFTeX\usepackage[T1]{{fontenc}}\usepackage[utf8]{{inputenc}}\else\usepackage{{fontspec}}\fi
% without these outlines pdflatex takes bitmaps for letters
\ifPDFTeX\IfFileExists{{lmodern.sty}}{{\usepackage{{lmodern}}}}{{}}\fi
\usepackage{{booktabs,graphicx}}
% pictures of the study, if its folder figures is copied next to this file
\newcommand{{\studyfigure}}[2]{{\IfFileExists{{figures/#1.png}}{{\begin{{figure}}[htbp]\centering
  \includegraphics[width=0.8\linewidth]{{figures/#1.png}}\caption{{#2}}\end{{figure}}}}{{}}}}
\begin{{document}}

\section*{{Methods}}
{methods}

\section*{{Results}}
Table~\ref{{{label}}} has the results.

{table}
\studyfigure{{quality_against_time}}{{{metric} and the time of each run. Vertical lines are 95 \%
  intervals of methods with a single run.}}
\studyfigure{{loss_curves}}{{Training loss (thin) and validation loss (bold), in nats per target token. Rings mark the
  checkpoints that were used.}}

\bibliographystyle{{plain}}
\bibliography{{tuneoff-study}}
\end{{document}}
"""


def study_table(summary: Summary, study: StoredStudy) -> ResultsTable:
    """The results table of a study."""
    return build_table(
        summary.rows,
        {run.name: run.record for run in compared_runs(summary, study)},
        method_styles(summary, study),
        summary.primary_metric,
        marks_scores=all(verdict.too_small is None and verdict.says_nothing is None for verdict in summary.verdicts),
    )


@dataclass(frozen=True)
class StudyInPaper:
    """A study in the forms that papers and programs use."""

    summary: Summary
    table: ResultsTable
    methods: MethodsText

    @classmethod
    def of(cls, summary: Summary, study: StoredStudy) -> "StudyInPaper":
        """Raises `UserError` if the folder has no `study.json`."""
        spec: StudySpec | None = study.spec
        if spec is None:
            raise UserError(f"{study.path}: contains no study.json; name the folder that `tuneoff compare` wrote")
        return cls(summary, study_table(summary, study), methods_text(summary, study, spec))

    @cached_property
    def bibtex(self) -> str:
        """The bibliography of the paragraph."""
        return as_bibtex(self.methods.entries)

    @cached_property
    def latex(self) -> str:
        """A complete document: the paragraph, the table, and the bibliography, which it writes itself."""
        return _DOCUMENT.format(
            version=escape_latex(self.summary.tuneoff_version),
            bibtex=self.bibtex,
            methods=self.methods.as_latex(),
            metric=escape_latex(metric_title(self.table.primary)),
            label=latex_label(self.summary.name),
            table=as_latex(self.table, self.summary.name),
        )

    @cached_property
    def markdown(self) -> str:
        """The table, and the paragraph below it."""
        return f"{as_markdown(self.table)}\n{escape_markdown(self.methods.as_text())}\n"

    @cached_property
    def csv(self) -> str:
        """The numbers of the table."""
        return as_csv(self.summary)


PAPER_FORMATS: dict[str, Callable[[StudyInPaper], str]] = {
    "latex": lambda paper: paper.latex,
    "markdown": lambda paper: paper.markdown,
    "csv": lambda paper: paper.csv,
    "bibtex": lambda paper: paper.bibtex,
}


def write_as(wanted: str, summary: Summary, study: StoredStudy) -> str:
    """A study in one of `PAPER_FORMATS`. Raises `UserError` for an unknown one."""
    if wanted not in PAPER_FORMATS:
        raise UserError(f"--format {wanted}: no such format{did_you_mean(wanted, [*PAPER_FORMATS, 'html'])}")
    return PAPER_FORMATS[wanted](StudyInPaper.of(summary, study))
