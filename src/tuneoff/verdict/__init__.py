"""From scores to the verdict: which method is better, how certain that is, what it costs. Imports no torch."""

from tuneoff.results.verdict import MethodResult, PairResult, Recommendation, Verdict
from tuneoff.stats.power import Sensitivity, VarianceComponents, planned_sensitivity
from tuneoff.verdict.decide import decide
from tuneoff.verdict.scores import AXES, Axis, Cost, Scores

__all__ = [
    "AXES",
    "Axis",
    "Cost",
    "MethodResult",
    "PairResult",
    "Recommendation",
    "Scores",
    "Sensitivity",
    "VarianceComponents",
    "Verdict",
    "decide",
    "planned_sensitivity",
]
