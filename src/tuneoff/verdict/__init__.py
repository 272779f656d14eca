"""From scores to the verdict: which method is better, how certain that is, what it costs. Imports no torch."""

from tuneoff.verdict.decide import decide
from tuneoff.verdict.judge import JudgedModel, judge_study
from tuneoff.verdict.rescoring import rescore
from tuneoff.verdict.scores import Scores, load_scores
from tuneoff.verdict.selection import find_model_to_use
from tuneoff.verdict.study_diff import diff
from tuneoff.verdict.summarize import summarize

__all__ = [
    "JudgedModel",
    "Scores",
    "decide",
    "diff",
    "find_model_to_use",
    "judge_study",
    "load_scores",
    "rescore",
    "summarize",
]
