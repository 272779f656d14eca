"""The report of a study: a page, charts and a page for blind ratings. Imports no torch."""

from tuneoff.report.charts import CHARTS, chart
from tuneoff.report.figures import run_figures
from tuneoff.report.page import render

__all__ = ["CHARTS", "chart", "render", "run_figures"]
