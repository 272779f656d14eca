"""The report of a study: a page, charts and a page for blind ratings. Imports no torch."""

from tuneoff.report.figures import run_figures
from tuneoff.report.page import WrittenReport, render
from tuneoff.report.study_charts import CHARTS, chart

__all__ = ["CHARTS", "WrittenReport", "chart", "render", "run_figures"]
