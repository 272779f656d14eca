"""Result files of PEFT's `method_comparison`, with intervals and Pareto fronts.

A file holds the accuracy of one experiment with one seed, and no scores of single examples. It does not hold the number
of test examples, which follows from the accuracies: they are fractions with a common denominator. All experiments
answered the same questions, but their answers are unknown. Differences are therefore judged as if the samples were
independent. The intervals are then too wide, never too narrow, when methods agree. Seed variance is unknown.
"""

import json
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, TypedDict

from tuneoff.errors import UserError
from tuneoff.regular_files import read_limited
from tuneoff.spec.run import Frozen
from tuneoff.stats.multiple_comparisons import LEVEL
from tuneoff.stats.proportions import wilson_interval
from tuneoff.verdict.rounding import bound_text

_LARGEST_TEST_SET = 20_000
_MOST_BYTES = 100_000_000  # of a result file
PEFT_COSTS = ("peak memory, bytes", "training time, s", "size on disk, bytes")


class PeftResult(Frozen):
    """One experiment. Accuracies are in points (0..100)."""

    name: str
    model: str
    accuracy: float
    low: float  # 95 % interval of this accuracy alone (Wilson 1927)
    high: float
    may_be_best: bool  # no other experiment is significantly better
    costs: dict[str, float | None]  # one of `PEFT_COSTS` -> value
    on_front: tuple[str, ...]  # costs for which no other experiment is both cheaper and better (Pareto front)


class PeftVerdict(Frozen):
    """The experiments on one base model, best first."""

    model: str
    examples: int  # test examples
    results: tuple[PeftResult, ...]
    width: float  # points; experiments that differ by more are significantly different, whatever their accuracies
    sentences: tuple[str, ...]


def judge_peft_results(files: Sequence[Path], level: float = LEVEL) -> list[PeftVerdict]:
    """One verdict for each base model, sorted by name. Failed experiments are excluded.

    Raises `UserError` for a file that is not a PEFT result, or if no number of test examples fits the accuracies.
    """
    rows = [row for file in files if (row := _read_experiment(file)) is not None]
    if not rows:
        raise UserError("no finished experiment in these files; name PEFT's method_comparison/*/results/*.json")
    models = sorted({row["model"] for row in rows})
    return [_judge_experiments(model, [row for row in rows if row["model"] == model], level) for model in models]


class _Experiment(TypedDict):
    name: str
    model: str
    accuracy: float  # 0..1
    costs: dict[str, float | None]


def _read_experiment(file: Path) -> _Experiment | None:
    """None for an experiment that failed."""
    try:
        found = json.loads(read_limited(file, _MOST_BYTES))
        train, run = found["train_info"], found["run_info"]
        if train["status"] != "success":
            return None
        return {
            "name": str(run["experiment_name"]),
            "model": str(run["train_config"]["model_id"]),
            "accuracy": _accuracy(train["metrics"][-1]["test accuracy"]),
            "costs": {
                PEFT_COSTS[0]: _cost(train.get("accelerator_memory_max", train.get("cuda_memory_max"))),
                PEFT_COSTS[1]: _cost(train.get("train_time")),
                PEFT_COSTS[2]: _cost(train.get("file_size")),
            },
        }
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise UserError(
            f"{file}: not a result file of PEFT's method_comparison (run_info, train_info with a test accuracy)"
        ) from error


def _accuracy(value: Any) -> float:
    accuracy = float(value)
    if not 0 <= accuracy <= 1:  # also rejects NaN
        raise ValueError(f"accuracy {value} is not between 0 and 1")
    return accuracy


def _cost(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def infer_test_size(accuracies: Iterable[float]) -> int:
    """The smallest number of test examples for which each accuracy is a whole number of correct answers.

    Raises `UserError` if no number up to 20,000 fits.
    """
    size = 1
    for accuracy in accuracies:
        fraction = Fraction(accuracy).limit_denominator(_LARGEST_TEST_SET)
        if not 0 <= accuracy <= 1 or abs(float(fraction) - accuracy) > 1e-12:
            raise UserError(f"accuracy {accuracy}: not a fraction of at most {_LARGEST_TEST_SET} test examples")
        size = math.lcm(size, fraction.denominator)
    if size > _LARGEST_TEST_SET:
        raise UserError(
            "the accuracies have no common number of test examples; name only experiments with the same test set"
        )
    return size


def _judge_experiments(model: str, rows: list[_Experiment], level: float) -> PeftVerdict:
    from scipy.stats import studentized_range

    names = [row["name"] for row in rows]
    if duplicate := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"experiment {duplicate} occurs twice; name each result file once")
    size = infer_test_size(row["accuracy"] for row in rows)
    rows = sorted(rows, key=lambda row: (-row["accuracy"], row["name"]))
    # Tukey's range for all pairs with infinite degrees of freedom: q / sqrt(2) standard errors of a difference.
    critical = float(studentized_range.ppf(level, len(rows), math.inf)) / math.sqrt(2) if len(rows) > 1 else 0.0
    best = rows[0]["accuracy"]
    results = []
    for row in rows:
        half_width = critical * math.sqrt(_variance(best, size) + _variance(row["accuracy"], size))
        low, high = wilson_interval(row["accuracy"], size)
        front = [cost for cost in PEFT_COSTS if _is_on_front(row, rows, cost)]
        results.append(
            PeftResult(
                name=row["name"],
                model=model,
                accuracy=100 * row["accuracy"],
                low=100 * low,
                high=100 * high,
                may_be_best=best - row["accuracy"] <= half_width,
                costs=row["costs"],
                on_front=tuple(front),
            )
        )
    width = 100 * critical * math.sqrt(2 * max(_variance(row["accuracy"], size) for row in rows))
    return PeftVerdict(
        model=model,
        examples=size,
        results=tuple(results),
        width=width,
        sentences=_describe_experiments(model, size, results, width),
    )


def _variance(accuracy: float, size: int) -> float:
    """Variance of an accuracy with one success and one failure added (Agresti, Caffo 2000), so that it is never 0."""
    adjusted = (accuracy * size + 1) / (size + 2)
    return adjusted * (1 - adjusted) / (size + 2)


def _is_on_front(row: _Experiment, rows: list[_Experiment], cost: str) -> bool:
    own = row["costs"][cost]
    if own is None:
        return False
    return not any(
        (theirs := other["costs"][cost]) is not None
        and theirs <= own
        and other["accuracy"] >= row["accuracy"]
        and (theirs < own or other["accuracy"] > row["accuracy"])
        for other in rows
    )


def _describe_experiments(model: str, size: int, results: list[PeftResult], width: float) -> tuple[str, ...]:
    top = [result.name for result in results if result.may_be_best]
    experiments = f"{len(results)} experiment{'' if len(results) == 1 else 's'}"
    lines = [f"{model}: {experiments} on {size} test examples (the smallest number that fits), one seed each."]
    if len(results) > 1:
        lead = f"{results[0].name} has the highest accuracy, {results[0].accuracy:.1f}"
        lines.append(
            f"{lead}, and is significantly better than all others."
            if len(top) == 1
            else f"{lead}; {len(top)} of {len(results)} may be the best: their differences are not significant."
        )
        lines.append(
            f"Experiments more than {bound_text(width)} points apart are significantly different. Closer ones may be "
            "too: accuracies near 0 or 100 vary less."
        )
    lines.append(
        "With one seed the variance between trainings is unknown: differences hold for these trained models and their "
        "hyper-parameters, not for the methods."
    )
    return tuple(lines)
