"""All scores of a generated text: `METRICS` gives each one its unit, direction and meaning.

A metric of another package registers by an entry point of the group `tuneoff.metrics` that names a `Metric`::

    [project.entry-points."tuneoff.metrics"]
    ends_with_period = "my_package:ENDS_WITH_PERIOD"
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points

from tuneoff.errors import UserError

ENTRY_POINT_GROUP = "tuneoff.metrics"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

ScoreFunction = Callable[[str, str, Sequence[str]], float | None]


@dataclass(frozen=True)
class Metric:
    """One score of a generated text.

    `unit` is points (0..100), share (0..1), words or count. `digits` is the number of decimals in a table.
    `higher_is_better` is None if neither direction is better. `score(text, document, references)` returns the value in
    its unit, or None if it is undefined; the metrics of tuneoff itself are computed together and have no function.
    `paired_sd` is the typical standard deviation over documents of the difference between two trained models, in its
    unit; None if it is not known, and then plans do not estimate what a study can detect.

    Raises `ValueError` for a name that is not an identifier or a negative number of digits.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool | None
    digits: int
    description: str
    score: ScoreFunction | None = None
    paired_sd: float | None = None

    @property
    def scale(self) -> float | None:
        """The largest possible value, and so the largest possible difference; None if there is no limit."""
        return {"points": 100.0, "share": 1.0}.get(self.unit)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"the name {self.name!r} must consist of letters, digits and underscores")
        if self.digits < 0:
            raise ValueError(f"digits must not be negative, not {self.digits}")


# `paired_sd`: about the medians over all pairs of methods on 618 SciTLDR abstracts.
BUILT_IN = (
    Metric("rouge1", "ROUGE-1", "points", True, 1, "Words shared with the best reference, F-measure", paired_sd=13.0),
    Metric(
        "rouge2", "ROUGE-2", "points", True, 1, "Word pairs shared with the best reference, F-measure", paired_sd=14.6
    ),
    Metric(
        "rougeL",
        "ROUGE-L",
        "points",
        True,
        1,
        "Longest common subsequence with the best reference, F-measure",
        paired_sd=13.7,
    ),
    Metric(
        "rougeLsum", "ROUGE-Lsum", "points", True, 1, "ROUGE-L computed sentence by sentence, F-measure", paired_sd=13.7
    ),
    Metric("rouge1_mean", "ROUGE-1 (mean)", "points", True, 1, "ROUGE-1, mean over all references", paired_sd=8.3),
    Metric("rouge2_mean", "ROUGE-2 (mean)", "points", True, 1, "ROUGE-2, mean over all references", paired_sd=6.5),
    Metric("rougeL_mean", "ROUGE-L (mean)", "points", True, 1, "ROUGE-L, mean over all references", paired_sd=7.2),
    Metric(
        "rougeLsum_mean", "ROUGE-Lsum (mean)", "points", True, 1, "ROUGE-Lsum, mean over all references", paired_sd=7.2
    ),
    Metric("length", "Length", "words", None, 1, "Words in the text"),
    Metric("novelty", "Novelty", "share", None, 2, "Distinct word pairs that are not in the document"),
    Metric("copy_rate", "Copy rate", "share", None, 2, "Words inside runs of 4 or more copied from the document"),
    Metric("repetition", "Repetition", "share", False, 2, "Runs of 3 words that repeat an earlier one"),
    Metric("unsupported_numbers", "Unsupported numbers", "count", False, 2, "Numbers that are not in the document"),
    Metric("unsupported_names", "Unsupported names", "count", False, 2, "Names that are not in the document"),
    Metric("empty", "Empty", "share", False, 2, "Outputs of white space only"),
    Metric("unstopped", "Never stopped", "share", False, 2, "Outputs truncated by the token limit, not ended by EOS"),
)


class MetricRegistry(Mapping[str, Metric]):
    """Name -> metric: the built-in ones in their order, then those of other packages by name.

    Entry points are read when the registry is first used, not when this module is imported. Using it raises `UserError`
    if an entry point cannot be loaded, is not a `Metric` with a `score` function, or has a name that is taken.
    """

    def __getitem__(self, name: str) -> Metric:
        return self._metrics[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._metrics)

    def __len__(self) -> int:
        return len(self._metrics)

    @cached_property
    def _metrics(self) -> dict[str, Metric]:
        return {metric.name: metric for metric in (*BUILT_IN, *self.of_other_packages.values())}

    @cached_property
    def of_other_packages(self) -> dict[str, Metric]:
        """Name -> metric, for the metrics that other packages registered."""
        taken = {metric.name: "tuneoff" for metric in BUILT_IN}
        found: dict[str, Metric] = {}
        for entry_point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda entry_point: entry_point.name):
            metric = _load_metric(entry_point)
            package = _package_of(entry_point)
            if metric.name in taken:
                raise UserError(
                    f"the metric {metric.name!r} of the package {package} has the same name as one of the package "
                    f"{taken[metric.name]}; uninstall one of them"
                )
            taken[metric.name] = package
            found[metric.name] = metric
        return found


def _load_metric(entry_point: EntryPoint) -> Metric:
    package = _package_of(entry_point)
    try:
        metric = entry_point.load()
    except Exception as error:  # the code of another package may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"the metric {entry_point.name!r} of the package {package} cannot be loaded ({reason}); "
            "update or uninstall the package"
        ) from error
    if not isinstance(metric, Metric) or metric.score is None:
        raise UserError(
            f"the entry point {entry_point.name!r} of the package {package} ({entry_point.value}) is not a "
            "tuneoff.metrics.Metric with a score function; update or uninstall the package"
        )
    return metric


def _package_of(entry_point: EntryPoint) -> str:
    return entry_point.dist.name if entry_point.dist is not None else entry_point.module


METRICS = MetricRegistry()


def deciding_metric(text: str) -> str:
    """The name of the metric that `text` means, in any usual spelling: `ROUGE-L`, `rouge_l` and `rougel` are `rougeL`.

    Raises `UserError` if there is none, or if more of it is not better, so that no verdict can follow from it.
    """
    known = [text] if text in METRICS else [name for name in METRICS if _plain(name) == _plain(text)]
    deciding = [name for name, metric in METRICS.items() if metric.higher_is_better]
    if len(known) == 1 and known[0] in deciding:
        return known[0]
    use = f"use {', '.join(deciding)}"
    if known:
        raise UserError(f"{text!r}: a verdict needs a metric in which more is better; {use}")
    raise UserError(f"no metric {text!r}; {use}")


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def score_by_other_packages(text: str, document: str, references: Sequence[str]) -> dict[str, float | None]:
    """The scores of the metrics that other packages registered.

    Raises `UserError` if one fails or returns something other than a finite number or None.
    """
    return {
        name: _checked_score(metric, text, document, references) for name, metric in METRICS.of_other_packages.items()
    }


def _checked_score(metric: Metric, text: str, document: str, references: Sequence[str]) -> float | None:
    assert metric.score is not None
    try:
        value = metric.score(text, document, references)
        number = None if value is None else float(value)
    except Exception as error:  # the code of another package may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"the metric {metric.name!r} failed ({reason}); update or uninstall its package") from error
    if number is not None and not math.isfinite(number):
        raise UserError(
            f"the metric {metric.name!r} returned {number}, but a finite number or None was expected; update or "
            "uninstall its package"
        )
    return number
