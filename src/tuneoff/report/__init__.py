"""The report of a study: a page, charts and a page for blind ratings. Imports no torch.

What draws is imported when it is used: Altair takes half a second, and formats of numbers are needed everywhere.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuneoff.report.figures import run_figures
    from tuneoff.report.page import WrittenReport, render
    from tuneoff.report.study_charts import CHARTS, chart

__all__ = ["CHARTS", "WrittenReport", "chart", "render", "run_figures"]
_HOMES = {
    "CHARTS": "study_charts",
    "WrittenReport": "page",
    "chart": "study_charts",
    "render": "page",
    "run_figures": "figures",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
