"""Every score of a generated text: its unit, its direction and what it says. Reports and docs read this table."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """One score. `unit` is points (0..100), share (0..1), words or count; `higher_is_better` is None where neither
    direction is a merit; `digits` is how many decimals a table shows."""

    name: str
    title: str
    unit: str
    higher_is_better: bool | None
    digits: int
    description: str


def _by_name(metrics: Iterable[Metric]) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


METRICS: dict[str, Metric] = _by_name(
    (
        Metric("rouge1", "ROUGE-1", "points", True, 1, "Words shared with the best reference, F-measure"),
        Metric("rouge2", "ROUGE-2", "points", True, 1, "Word pairs shared with the best reference, F-measure"),
        Metric("rougeL", "ROUGE-L", "points", True, 1, "Longest common subsequence with the best reference, F-measure"),
        Metric("rougeLsum", "ROUGE-Lsum", "points", True, 1, "ROUGE-L taken sentence by sentence, F-measure"),
        Metric("rouge1_mean", "ROUGE-1 (mean)", "points", True, 1, "ROUGE-1, mean over all references"),
        Metric("rouge2_mean", "ROUGE-2 (mean)", "points", True, 1, "ROUGE-2, mean over all references"),
        Metric("rougeL_mean", "ROUGE-L (mean)", "points", True, 1, "ROUGE-L, mean over all references"),
        Metric("rougeLsum_mean", "ROUGE-Lsum (mean)", "points", True, 1, "ROUGE-Lsum, mean over all references"),
        Metric("length", "Length", "words", None, 1, "Words in the text"),
        Metric("novelty", "Novelty", "share", None, 2, "Distinct word pairs that the document does not hold"),
        Metric("copy_rate", "Copy rate", "share", None, 2, "Words inside runs of 4 or more copied from the document"),
        Metric("repetition", "Repetition", "share", False, 2, "Runs of 3 words that repeat an earlier one"),
        Metric(
            "unsupported_numbers", "Unsupported numbers", "count", False, 2, "Numbers that the document does not hold"
        ),
        Metric("unsupported_names", "Unsupported names", "count", False, 2, "Names that the document does not hold"),
        Metric("empty", "Empty", "share", False, 2, "Outputs with nothing but white space"),
        Metric("unstopped", "Never stopped", "share", False, 2, "Outputs cut by the token limit, not ended by EOS"),
    )
)
