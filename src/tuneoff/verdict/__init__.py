"""Statistics over records: who is better, how sure that is, which method is worth its cost. Imports no torch."""

from tuneoff.results.verdict import MethodResult, PairResult, Recommendation, Verdict
from tuneoff.stats.power import Components, Sensitivity, plan
from tuneoff.verdict.decide import decide
from tuneoff.verdict.scores import AXES, Axis, Cost, Scores

__all__ = [
    "AXES",
    "Axis",
    "Components",
    "Cost",
    "MethodResult",
    "PairResult",
    "Recommendation",
    "Scores",
    "Sensitivity",
    "Verdict",
    "decide",
    "plan",
]
