"""Result files of PEFT's `method_comparison`, with intervals and Pareto fronts.

The files hold one accuracy for each experiment, of one seed, and no score for single examples. The number of test
examples is not written down; it follows from the accuracies, which are fractions with one common denominator. Methods
answered the same questions, but which ones is unknown, so differences are judged as if samples were independent: that
is too wide where methods agree (they do), never too narrow for it. What another seed would give is unknown.
"""

import json
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from scipy.stats import studentized_range

from tuneoff.errors import UserError
from tuneoff.spec.run import Frozen
from tuneoff.stats.multiple_comparisons import LEVEL

_LARGEST_TEST = 20_000
AXES = ("peak memory, bytes", "training time, s", "stored bytes")


class PeftResult(Frozen):
    """One experiment. Accuracies are points (0..100); `low` and `high` bound its own true accuracy (Wilson 1927)."""

    name: str
    model: str
    accuracy: float
    low: float
    high: float
    may_be_best: bool
    costs: dict[str, float | None]
    on_front: tuple[str, ...]  # axes on which nothing is both cheaper and better


class PeftVerdict(Frozen):
    """The experiments on one base model, the best first. `width`: two experiments that lie closer than this are not
    told apart, at the accuracy where that is hardest."""

    model: str
    examples: int
    results: tuple[PeftResult, ...]
    width: float
    sentences: tuple[str, ...]


def import_peft(files: Sequence[Path], level: float = LEVEL) -> list[PeftVerdict]:
    """One verdict for each base model, in the order of their names. Experiments that failed are left out.

    Raises `UserError` for a file that is none of PEFT's results, or when no number of test examples fits.
    """
    rows = [row for file in files if (row := _read(file)) is not None]
    if not rows:
        raise UserError("no finished experiment in these files; name PEFT's method_comparison/*/results/*.json")
    models = sorted({row["model"] for row in rows})
    return [_judge(model, [row for row in rows if row["model"] == model], level) for model in models]


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        train, run = found["train_info"], found["run_info"]
        if train["status"] != "success":
            return None
        return {
            "name": str(run["experiment_name"]),
            "model": str(run["train_config"]["model_id"]),
            "accuracy": _share(train["metrics"][-1]["test accuracy"]),
            "costs": {
                AXES[0]: _number(train.get("accelerator_memory_max", train.get("cuda_memory_max"))),
                AXES[1]: _number(train.get("train_time")),
                AXES[2]: _number(train.get("file_size")),
            },
        }
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise UserError(
            f"{file}: not a result file of PEFT's method_comparison (run_info, train_info with a test accuracy)"
        ) from error


def _share(value: Any) -> float:
    share = float(value)
    if not 0 <= share <= 1:  # NaN is neither
        raise ValueError(f"{value} is no share")
    return share


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def examples_behind(accuracies: Iterable[float]) -> int:
    """The smallest number of examples of which every accuracy is a whole share. Raises `UserError` when none fits."""
    size = 1
    for accuracy in accuracies:
        share = Fraction(accuracy).limit_denominator(_LARGEST_TEST)
        if not 0 <= accuracy <= 1 or abs(float(share) - accuracy) > 1e-12:
            raise UserError(f"accuracy {accuracy}: no share of at most {_LARGEST_TEST} test examples")
        size = math.lcm(size, share.denominator)
    if size > _LARGEST_TEST:
        raise UserError(
            "the accuracies have no common number of test examples: these experiments were not judged on one test set"
        )
    return size


def _judge(model: str, rows: list[dict[str, Any]], level: float) -> PeftVerdict:
    names = [row["name"] for row in rows]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"experiment {doubled} is there twice; name each result file once")
    size = examples_behind(row["accuracy"] for row in rows)
    rows = sorted(rows, key=lambda row: (-row["accuracy"], row["name"]))
    # Tukey's range over all pairs, infinite degrees of freedom: q / sqrt(2) standard errors of a difference.
    critical = float(studentized_range.ppf(level, len(rows), math.inf)) / math.sqrt(2) if len(rows) > 1 else 0.0
    best = rows[0]["accuracy"]
    results = []
    for row in rows:
        apart = critical * math.sqrt(_variance(best, size) + _variance(row["accuracy"], size))
        low, high = _wilson(row["accuracy"], size)
        front = [axis for axis in AXES if _on_front(row, rows, axis)]
        results.append(
            PeftResult(
                name=row["name"],
                model=model,
                accuracy=100 * row["accuracy"],
                low=100 * low,
                high=100 * high,
                may_be_best=best - row["accuracy"] <= apart,
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
        sentences=_sentences(model, size, results, width),
    )


def _variance(share: float, size: int) -> float:
    """Of an accuracy, with two successes and two failures added (Agresti, Caffo 2000): 0 and 1 are never certain."""
    softened = (share * size + 1) / (size + 2)
    return softened * (1 - softened) / (size + 2)


def _wilson(share: float, size: int, z: float = 1.959964) -> tuple[float, float]:
    middle = (share + z * z / (2 * size)) / (1 + z * z / size)
    half = z / (1 + z * z / size) * math.sqrt(share * (1 - share) / size + z * z / (4 * size * size))
    return max(0.0, middle - half), min(1.0, middle + half)


def _on_front(row: dict[str, Any], rows: list[dict[str, Any]], axis: str) -> bool:
    cost = row["costs"][axis]
    if cost is None:
        return False
    return not any(
        other["costs"][axis] is not None
        and other["costs"][axis] <= cost
        and other["accuracy"] >= row["accuracy"]
        and (other["costs"][axis] < cost or other["accuracy"] > row["accuracy"])
        for other in rows
    )


def _sentences(model: str, size: int, results: list[PeftResult], width: float) -> tuple[str, ...]:
    top = [result.name for result in results if result.may_be_best]
    experiments = f"{len(results)} experiment{'' if len(results) == 1 else 's'}"
    lines = [f"{model}: {experiments} on {size} test examples (the fewest that fit the accuracies), one seed each."]
    if len(results) > 1:
        lead = f"{results[0].name} has the highest accuracy, {results[0].accuracy:.1f}"
        lines.append(
            f"{lead}, and is shown to be better than all others."
            if len(top) == 1
            else f"{lead}; {len(top)} of {len(results)} may be the best: their differences are within chance."
        )
        lines.append(f"Two experiments that lie closer than {width:.1f} points are not told apart by this test set.")
    lines.append(
        "With one seed nothing is known about another training of the same method, so even a difference that is shown "
        "here holds for these trained models alone; every hyper-parameter is part of the experiment."
    )
    return tuple(lines)
