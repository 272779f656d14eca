"""The verdict and the records made visible: a page and pictures. Imports no torch, so an old study is redrawn anywhere."""

from tuneoff.report.figures import run_figures
from tuneoff.report.page import render

__all__ = ["render", "run_figures"]
