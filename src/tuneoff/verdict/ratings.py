"""Blind ratings of a person: who is preferred, how sure that is, and whether ROUGE agrees.

A rating is +1, 0 or -1 for the first method. Its mean has a t interval over document groups (texts of one document do
not count as independent), adjusted for few ratings. It speaks of this rater and these two runs.
"""

import json
import math
from pathlib import Path
from statistics import fmean, stdev

from pydantic import Field, ValidationError
from scipy.stats import t as student

from tuneoff.errors import UserError
from tuneoff.results.study_dir import StoredStudy
from tuneoff.spec.run import Frozen
from tuneoff.stats.multiple_comparisons import LEVEL


class Rating(Frozen):
    """One text: the method preferred, None for no difference."""

    id: str
    preferred: str | None


class Ratings(Frozen):
    """The file that the rating page saves."""

    kind: str = Field(pattern="^tuneoff ratings$")
    study: str
    runs: tuple[str, str]
    methods: tuple[str, str]
    ratings: tuple[Rating, ...]


class Preference(Frozen):
    """`balance`: share that prefers the first method minus share that prefers the second (-1..1), with its interval.
    `agreement`: share of ratings with a preference in which the preferred text has the higher ROUGE-1."""

    methods: tuple[str, str]
    rated: int
    first: int
    second: int
    same: int
    balance: float
    low: float | None
    high: float | None
    agreement: float | None
    agreed_of: int
    sentences: tuple[str, ...]


def read_ratings(path: Path) -> Ratings:
    """Raises `UserError` for a file that the rating page did not write."""
    try:
        return Ratings.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValidationError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: no file of ratings; save one with the button of rating.html") from error


def saved_ratings(study: StoredStudy) -> list[tuple[Path, Preference | str]]:
    """What the files of ratings in a study folder show, or why one is left out: they never take the verdict away."""
    found: list[tuple[Path, Preference | str]] = []
    for path in study.dir.ratings():
        try:
            found.append((path, judge_ratings(study, read_ratings(path))))
        except UserError as error:
            found.append((path, f"left out: {error}"))
    return found


def judge_ratings(study: StoredStudy, ratings: Ratings) -> Preference:
    """Raises `UserError` for ratings of another study, or none."""
    groups = study.groups
    scores = []
    for name in ratings.runs:
        run = study.run(name)
        if run is None:
            raise UserError(f"{study.path}: holds no run {name}; these ratings belong to another study")
        scores.append({row.id: row.scores.get("rouge1") for row in run.predictions})
    known = [rating for rating in ratings.ratings if rating.id in groups]
    wrong = next((rating for rating in known if rating.preferred not in (None, *ratings.methods)), None)
    if not known or wrong is not None:
        what = f"a rating prefers {wrong.preferred!r}" if wrong else "no rating of a document of this study"
        raise UserError(f"{study.path}: {what}; save the ratings anew")
    values = {rating.id: _value(rating, ratings.methods) for rating in known}
    by_group: dict[str, list[int]] = {}
    for key, value in values.items():
        by_group.setdefault(groups[key], []).append(value)
    balance = fmean(values.values())
    low, high = _interval(by_group)
    agreed = []
    for key, value in values.items():
        one, two = scores[0].get(key), scores[1].get(key)
        if value and one is not None and two is not None and one != two:
            agreed.append((one > two) == (value > 0))
    counts = [sum(value == side for value in values.values()) for side in (1, -1, 0)]
    agreement = fmean(agreed) if agreed else None
    return Preference(
        methods=ratings.methods,
        rated=len(values),
        first=counts[0],
        second=counts[1],
        same=counts[2],
        balance=balance,
        low=low,
        high=high,
        agreement=agreement,
        agreed_of=len(agreed),
        sentences=_sentences(ratings.methods, counts, low, high, agreement, len(agreed)),
    )


def _value(rating: Rating, methods: tuple[str, str]) -> int:
    return 0 if rating.preferred is None else 1 if rating.preferred == methods[0] else -1


def _interval(by_group: dict[str, list[int]]) -> tuple[float | None, float | None]:
    """t over groups of the linearised ratio of group sums to the number of ratings; None with fewer than two groups.

    One more document is taken to prefer each side (Bonett, Price 2012, Adjusted Wald Confidence Interval for a
    Difference of Binomial Proportions Based on Paired Data): a few choices that all agree are no certainty.
    """
    if len(by_group) < 2:
        return None, None
    groups = [*by_group.values(), [1], [-1]]
    number, count = len(groups), sum(map(len, groups))
    mean = sum(map(sum, groups)) / count
    parts = [(sum(values) - mean * len(values)) * number / count for values in groups]
    half = float(student.ppf((1 + LEVEL) / 2, number - 1)) * stdev(parts) / math.sqrt(number)
    return max(-1.0, mean - half), min(1.0, mean + half)


def _sentences(
    methods: tuple[str, str],
    counts: list[int],
    low: float | None,
    high: float | None,
    agreement: float | None,
    agreed_of: int,
) -> tuple[str, ...]:
    first, second = methods
    lines = [
        f"Of {sum(counts)} texts {counts[0]} were preferred from {first}, {counts[1]} from {second}, {counts[2]} alike."
    ]
    if low is None or high is None:
        lines.append("Too few documents for an interval.")
    else:
        who = first if low > 0 else second if high < 0 else None
        lines.append(
            f"The balance lies between {100 * low:+.0f} and {100 * high:+.0f} % for {first}: "
            + (f"this rater prefers {who}." if who else "no preference is shown.")
        )
    if agreement is not None:
        lines.append(
            f"ROUGE-1 agrees with the rater on {100 * agreement:.0f} % of {agreed_of} texts; one half would be chance."
        )
    return tuple(lines)
