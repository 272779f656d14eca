"""The verdict as a value: frozen, and JSON through `model_dump(mode="json")`. All numbers are points of the metric."""

from typing import Literal

from tuneoff.spec.run import Frozen

Decision = Literal["better", "worse", "tie", "no difference shown"]
Size = Literal["matters", "too small to matter", "not settled"]


class MethodResult(Frozen):
    """One method against the unknown best.

    `may_be_best` says that no other method is shown to be better. `may_lose` bounds by how much its true mean lies
    under the best one's, for all methods at once (95 %, one-sided); it is `not_worse` when that is at most the margin.
    `seed_sd` is None where seeds vary nothing or are too few.
    """

    method: str
    title: str
    mean: float
    seed_means: tuple[float, ...]
    seed_sd: float | None
    may_be_best: bool
    may_lose: float
    not_worse: bool


class PairResult(Frozen):
    """`first` minus `second`. The interval holds for all pairs at once (95 %).

    `decision` is about `first`: better or worse when the interval excludes zero, tie when it excludes every difference
    beyond the margin, otherwise no difference shown. `size` says whether the difference is beyond the margin.
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    standard_error: float
    df: float | None  # Satterthwaite; None where there is no error
    decision: Decision
    size: Size
    smallest_detectable: float


class Recommendation(Frozen):
    """The cheapest method on one axis among those not worse than the best by the margin; where none is shown to be so,
    the cheapest among those that may be the best, and `settled` is False."""

    axis: str
    title: str
    unit: str
    method: str | None
    cost: float | None
    settled: bool = False
    may_lose: float | None = None
    equally_cheap: tuple[str, ...] = ()
    without_cost: tuple[str, ...] = ()
    reason: str | None = None  # why there is no recommendation


class Verdict(Frozen):
    """What a study says about its methods, and how sure it is."""

    metric: str
    unit: str = "points"
    level: float
    margin: float
    block: str | None
    methods: tuple[MethodResult, ...]
    left_out: tuple[str, ...] = ()  # titles of methods that were to be compared and have no finished, scored run
    pairs: tuple[PairResult, ...]
    best: str | None  # the highest mean
    best_set: tuple[str, ...]  # methods that may be the best
    recommendations: tuple[Recommendation, ...]
    smallest_detectable: float | None
    smallest_margin: float | None
    seeds: tuple[int, ...]
    documents: int
    groups: int
    covers_seeds: bool  # False: one seed, the intervals speak of these trained models only
    sentences: tuple[str, ...]
    notes: tuple[str, ...]
