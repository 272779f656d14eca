"""Blind ratings by a person: which of two methods is preferred, an interval, and the agreement with the metric.

A rating is +1, 0 or -1 for the first method. The mean rating has a t interval over document groups, adjusted for few
ratings; texts of one document do not count as independent. It is valid for this rater and these two runs only.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

from pydantic import Field, ValidationError

from tuneoff.errors import UserError
from tuneoff.metrics.registry import METRICS
from tuneoff.regular_files import read_limited
from tuneoff.results.study_dir import StoredStudy
from tuneoff.spec.run import Frozen
from tuneoff.stats.multiple_comparisons import LEVEL
from tuneoff.stats.proportions import wilson_interval
from tuneoff.text import plural
from tuneoff.verdict.judge import planned_metric

_MOST_BYTES = 100_000_000  # of a file of ratings


class Rating(Frozen):
    """The preferred method for one text; None for no difference."""

    id: str
    preferred: str | None


class Ratings(Frozen):
    """The file saved by the rating page."""

    kind: str = Field(pattern="^tuneoff ratings$")
    study: str
    runs: tuple[str, str]
    methods: tuple[str, str]
    ratings: tuple[Rating, ...]


class Preference(Frozen):
    """What one file of ratings shows."""

    methods: tuple[str, str]
    rated: int  # number of ratings
    first: int  # of which prefer the first method
    second: int
    same: int
    balance: float  # fraction preferring the first method minus fraction preferring the second (-1..1)
    low: float | None  # 95 % interval of `balance`; None with fewer than two document groups
    high: float | None
    agreement: float | None  # fraction of preferences in which the preferred text has the higher score
    agreement_low: float | None  # 95 % interval of `agreement`
    agreement_high: float | None
    agreed_of: int  # number of preferences between texts with different scores
    sentences: tuple[str, ...]
    left_out: int = 0  # rated documents for which one of the two runs has no output; they are not counted


def read_ratings(path: Path) -> Ratings:
    """Read a file saved by the rating page. Raises `UserError` for any other file."""
    try:
        return Ratings.model_validate(json.loads(read_limited(path, _MOST_BYTES)))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValidationError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a file of ratings; save one with the button in rating.html") from error


def saved_ratings(study: StoredStudy) -> list[tuple[Path, Preference | str]]:
    """The result of each file of ratings in a study folder, or why it was skipped. A bad file never raises."""
    found: list[tuple[Path, Preference | str]] = []
    for path in study.dir.ratings():
        try:
            found.append((path, judge_ratings(study, read_ratings(path))))
        except UserError as error:
            found.append((path, f"skipped: {error}"))
    return found


def judge_ratings(study: StoredStudy, ratings: Ratings) -> Preference:
    """Evaluate the ratings of a study. Raises `UserError` for ratings of another study, or without a rating."""
    groups, metric = study.groups, planned_metric(study)
    scores = []
    for name in ratings.runs:
        run = study.run(name)
        if run is None:
            raise UserError(f"{study.path}: has no run {name}; name the study that these ratings belong to")
        scores.append(run.outputs.scores(metric))
    # A page of an earlier version showed a blank text where one of the runs had not had the document.
    known = [rating for rating in ratings.ratings if rating.id in groups and all(rating.id in one for one in scores)]
    left_out = len({rating.id for rating in ratings.ratings} - {rating.id for rating in known})
    wrong = next((rating for rating in known if rating.preferred not in (None, *ratings.methods)), None)
    if not known or wrong is not None:
        what = f"a rating prefers {wrong.preferred!r}" if wrong else "no rating of a document that both runs have"
        raise UserError(f"{study.path}: {what}; save the ratings again in rating.html")
    values = {rating.id: _preference_value(rating, ratings.methods) for rating in known}
    by_group: dict[str, list[int]] = {}
    for key, value in values.items():
        by_group.setdefault(groups[key], []).append(value)
    balance = fmean(values.values())
    low, high = _balance_interval(by_group)
    agreed = {}
    for key, value in values.items():
        one, two = scores[0].get(key), scores[1].get(key)
        if value and one is not None and two is not None and one != two:
            agreed[key] = (one > two) == (value > 0)
    counts = [sum(value == side for value in values.values()) for side in (1, -1, 0)]
    agreement = fmean(agreed.values()) if agreed else None
    agreement_low, agreement_high = _agreement_interval([groups[key] for key in agreed], agreement)
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
        agreement_low=agreement_low,
        agreement_high=agreement_high,
        agreed_of=len(agreed),
        sentences=(
            *_describe_ratings(ratings.methods, counts, low, high, left_out),
            *_describe_agreement(metric, agreement, agreement_low, agreement_high, len(agreed)),
        ),
        left_out=left_out,
    )


def _preference_value(rating: Rating, methods: tuple[str, str]) -> int:
    return 0 if rating.preferred is None else 1 if rating.preferred == methods[0] else -1


def _balance_interval(by_group: dict[str, list[int]]) -> tuple[float | None, float | None]:
    """t interval over groups for the linearised ratio of group sums to the number of ratings.

    One document is added to each side (Bonett, Price 2012, Adjusted Wald Confidence Interval for a Difference of
    Binomial Proportions Based on Paired Data), so that a few ratings that all agree do not give a width of zero. None
    with fewer than two groups.
    """
    from scipy.stats import t as student

    if len(by_group) < 2:
        return None, None
    groups = [*by_group.values(), [1], [-1]]
    number, count = len(groups), sum(map(len, groups))
    mean = sum(map(sum, groups)) / count
    parts = [(sum(values) - mean * len(values)) * number / count for values in groups]
    half = float(student.ppf((1 + LEVEL) / 2, number - 1)) * stdev(parts) / math.sqrt(number)
    return max(-1.0, mean - half), min(1.0, mean + half)


def _describe_ratings(
    methods: tuple[str, str],
    counts: list[int],
    low: float | None,
    high: float | None,
    left_out: int,
) -> tuple[str, ...]:
    first, second = methods
    preferring = [f"{count} prefer{'s' if count == 1 else ''}" for count in counts]
    lines = [
        f"{plural(sum(counts), 'rating')}: {preferring[0]} {first}, {preferring[1]} {second}, {counts[2]} neither."
    ]
    if left_out:
        rated = plural(left_out, "rated document")
        lines.append(f"Not counted: {rated} for which one of the two runs has no output.")
    if low is None or high is None:
        lines.append("There are too few documents for an interval.")
    else:
        preferred = first if low > 0 else second if high < 0 else None
        answer = f"This rater prefers {preferred}" if preferred else "No significant preference"
        lines.append(f"{answer}: the balance for {first} is between {100 * low:+.0f} and {100 * high:+.0f} %.")
    return tuple(lines)


def _agreement_interval(groups: Sequence[str], agreement: float | None) -> tuple[float | None, float | None]:
    """Wilson's interval with one case for each document group, since its texts are not independent."""
    return (None, None) if agreement is None else wilson_interval(agreement, len(set(groups)))


def _describe_agreement(
    metric: str, agreement: float | None, low: float | None, high: float | None, agreed_of: int
) -> tuple[str, ...]:
    if agreement is None or low is None or high is None:
        return ()
    title = METRICS[metric].title if metric in METRICS else metric
    lower, upper = math.floor(100 * low), math.ceil(100 * high)
    answer = {
        (True, False): "more often than by chance",
        (False, True): "less often than by chance",
    }.get((lower > 50, upper < 50), "not shown to differ from chance")
    return (
        f"{title} agrees with the rater on {100 * agreement:.0f} % of {plural(agreed_of, 'text')} "
        f"({lower} to {upper} %): {answer}, which is 50 %.",
    )
