"""The verdict and the records made visible: a page and pictures. Imports no torch: any laptop can redraw a study."""

from tuneoff.report.figures import run_figures
from tuneoff.report.page import render

__all__ = ["render", "run_figures"]
