"""What a study found: one typed model, written by the verdict and read by report, terminal, `--json` and Python.

Scores are in points of their metric. `summary.json` holds the same model; each version rewrites it from the records.
"""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, SerializeAsAny

from tuneoff.results.cost_axes import Cost
from tuneoff.results.run_record import Machine
from tuneoff.results.study_state import DataFile, Effort, SearchFile
from tuneoff.spec.run import Frozen

Decision = Literal["better", "worse", "tie", "no difference shown"]
Relevance = Literal["matters", "too small to matter", "not settled"]
ClaimOutcome = Literal["supported", "contradicted", "undecided", "in all seeds", "in no seed"]
"""The last two: an order that was looked at seed by seed, without an interval."""
CrossoverOutcome = Literal["located", "throughout", "changes more than once", "undetermined"]
EndOfLooks = Literal["settled", "documents", "seeds", "nothing"]
"""Why a study is looked at no more: all is settled, only more test documents would help, all seeds are done, or no
difference can be reported."""
RowKind = Literal["method", "extractive", "outside"]
Compared = Literal["methods", "systems"]
"""Methods of a study with their runs on test documents, or systems of anybody's with given scores of items."""


class MethodResult(Frozen):
    """One method compared with the unknown best method."""

    method: str
    title: str
    mean: float
    seed_means: tuple[float, ...]
    seed_sd: float | None
    """None if the seed changes nothing, or with a single seed."""
    may_be_best: bool
    """Whether the method is one of those of which one is the best (multiple comparisons with the best, 95 %)."""
    regret_bound: float | None
    """Upper bound on how far the method's true mean lies below the best one's, simultaneous for all methods (95 %).

    None where no difference is reported; see `Verdict.too_small` and `Verdict.says_nothing`.
    """
    not_worse: bool
    """Whether the regret bound is at most the margin."""


class ErraticMethod(Frozen):
    """A method whose trainings differ far more than those of the other methods. Standard deviations are in points."""

    method: str
    seed_sd: float
    """Between seeds, over all fractions of the data."""
    others_sd: float
    """The same for the other methods."""


class SeedPriorResult(Frozen):
    """What all trainings of the study say about the variance between seeds of any method."""

    seed_sd: float
    """Typical standard deviation between seeds, points."""
    df: float
    """Degrees of freedom that it adds to those of each method."""
    cells: int
    """Sets of trainings behind it: one for each method at each fraction of the data."""


class PairResult(Frozen):
    """`first` minus `second`. The interval is simultaneous for all pairs (95 %)."""

    first: str
    second: str
    difference: float
    low: float
    high: float
    standard_error: float
    df: float | None
    """Satterthwaite's degrees of freedom; None if there is no error."""
    decision: Decision
    """About `first`: better or worse if the interval excludes zero; a tie if it excludes every difference beyond the
    margin."""
    size: Relevance
    """Whether the difference is beyond the margin."""
    smallest_detectable: float | None
    """None if no difference that is possible would be detected."""
    p_better: float | None = None
    """One-sided p-value of this pair alone, against a difference of 0 or less. None in older verdicts."""
    p_not_worse: float | None = None
    """The same, against a difference below the margin: `first` is worse by at least the margin."""
    p_not_better: float | None = None
    """The same, against a difference above the margin: `first` is better by at least the margin."""
    narrower_by_seeds: float | None = None
    """By which part (0 to 1) twice as many seeds would narrow the interval; None with a single seed."""
    narrower_by_documents: float | None = None
    """The same for twice as many test documents."""


class Recommendation(Frozen):
    """The cheapest method on one axis among those that are not worse than the best by more than the margin.

    If no method is shown to be so: the cheapest among those that may be the best, and `settled` is False.
    """

    axis: str
    title: str
    unit: str
    method: str | None
    cost: float | None
    settled: bool = False
    regret_bound: float | None = None
    equally_cheap: tuple[str, ...] = ()
    without_cost: tuple[str, ...] = ()
    reason: str | None = None
    """Why there is no recommendation."""


class LookResult(Frozen):
    """One look of a study that stops when it is settled."""

    seeds: int
    level: float | None
    """Of the intervals at this look, such that those of all looks hold at once with the level of the verdict; None if
    no difference is reported."""
    information: float | None
    """Relative to the last look, 0 to 1."""
    methods: tuple[str, ...]
    """Methods that were compared."""
    stopped: tuple[str, ...]
    """Of these, methods shown to lose more than the margin: they get no further seeds."""
    failed: tuple[str, ...] = ()
    """Methods that take part no longer, because a training failed."""
    end: EndOfLooks | None = None
    """Why no look follows."""


class LooksResult(Frozen):
    """How a study that stops when it is settled was looked at, and what that saved."""

    planned: tuple[int, ...]
    """Numbers of seeds after which looks were planned."""
    margin: float
    """Points; a method that is shown to lose more gets no further seeds."""
    taken: tuple[LookResult, ...]
    left_out: tuple[int, ...]
    """Looks that a time limit left out."""
    runs: int
    """Final runs on all the data that finished."""
    all_runs: int
    """Those of a study in which every method gets the seeds of the last look."""
    saved_seconds: float | None
    """What the others would take; None if that is unknown."""
    sentences: tuple[str, ...] = ()


class Verdict(Frozen):
    """What a study says about its methods on one model, and with what certainty."""

    metric: str
    unit: str = "points"
    level: float
    margin: float
    block: str | None
    """The base model, if the study has several."""
    methods: tuple[MethodResult, ...]
    left_out: tuple[str, ...] = ()
    """Titles of methods that the study compares and that have no finished, scored run."""
    pairs: tuple[PairResult, ...]
    best: str | None
    """The method with the highest mean."""
    best_set: tuple[str, ...]
    """Methods that may be the best."""
    recommendations: tuple[Recommendation, ...]
    smallest_detectable: float | None
    """None without pairs, or if no difference that is possible would be detected."""
    smallest_margin: float | None
    seeds: tuple[int, ...]
    documents: int
    groups: int
    covers_seeds: bool
    """False with a single seed: the intervals then hold for these trained models, not for the methods."""
    sentences: tuple[str, ...]
    notes: tuple[str, ...]
    too_small: str | None = None
    """Why the study is too small for any difference, as sentences; there are then no pairs and no recommendations."""
    says_nothing: str | None = None
    """Why the scores measure nothing, as sentences; there are then no pairs and no recommendations."""
    no_winner: str | None = None
    """Why the best method of this model is not handed over, as sentences."""
    identical: tuple[tuple[str, ...], ...] = ()
    """Groups of methods that wrote the same texts."""
    trainings: int = 0
    """Trainings of each method that varies, over all fractions of the data; 0 with a single seed."""
    erratic: tuple[ErraticMethod, ...] = ()
    """Methods whose trainings differ far more than those of the others."""
    seed_prior: SeedPriorResult | None = None
    """None with fewer than 15 sets of trainings, or if each seed is good or bad for all methods alike."""
    looks: LooksResult | None = None
    """Of a study that stops when it is settled. A pair's interval is that of the last look at both methods, and the
    intervals of all looks hold at once."""
    compared: Compared = "methods"
    higher_is_better: bool = True
    """Where it is false, means are as measured, and differences and intervals are how much better `first` is."""
    decimals: int = 1
    """The least number of decimals with which the sentences give scores and differences."""

    @property
    def ranked(self) -> tuple[MethodResult, ...]:
        """The methods, best mean first."""
        sign = -1 if self.higher_is_better else 1
        return tuple(sorted(self.methods, key=lambda result: sign * result.mean))


class SizePoint(Frozen):
    """Mean of one method at one fraction of the data, over seeds and documents."""

    fraction: float
    examples: int
    """Training examples that were read at this fraction."""
    mean: float


class SizeCurve(Frozen):
    """One method over the fractions of the data."""

    method: str
    title: str
    points: tuple[SizePoint, ...]
    gain_of_doubling: float | None = None
    """Points that twice the data would add, by the fitted curve; None with fewer than three fractions."""
    gain_low: float | None = None
    gain_high: float | None = None
    pays_until: int | None = None
    """Number of examples from which doubling gains less than the margin; 0: from the first on; None: out of range."""


class BandPoint(Frozen):
    """`first` minus `second` at one fraction. The bands are simultaneous for all pairs and fractions."""

    fraction: float
    examples: int
    """Training examples that were read at this fraction."""
    difference: float
    low: float
    high: float
    covers_seeds: bool = True
    """False with a single seed: the band then holds for these trained models only."""
    p_better: float | None = None
    """One-sided p-values as in `PairResult`."""
    p_not_worse: float | None = None
    p_not_better: float | None = None


class Crossover(Frozen):
    """Where the better method of a pair changes."""

    first: str
    second: str
    outcome: CrossoverOutcome
    small: str | None
    """The better method on the least data with a significant difference."""
    large: str | None
    """The better method on much data; equal to `small` for the outcome `throughout`."""
    low: int | None
    high: int | None
    """The change lies between `low` and `high` examples."""
    estimate: int | None
    """Number of examples at which the straight lines between the means cross."""
    band: tuple[BandPoint, ...]


class DataSizeVerdict(Frozen):
    """How the comparison on one model changes with the amount of data."""

    block: str | None
    level: float
    curves: tuple[SizeCurve, ...]
    crossovers: tuple[Crossover, ...]
    sentences: tuple[str, ...]
    notes: tuple[str, ...]


class JudgedClaim(Frozen):
    """A claim of the study file, with what the study says about it."""

    text: str
    outcome: ClaimOutcome
    why: str
    model: str | None = None


class Confound(Frozen):
    """Something in which the runs of one base model differ besides the method."""

    aspect: str
    model: str
    changes_scores: bool
    """Whether it changes losses and texts by itself."""
    description: str

    @property
    def sentence(self) -> str:
        """The description as a sentence of the verdict."""
        if self.changes_scores:
            return f"Caution: {self.description}."
        return f"{self.description[:1].upper()}{self.description[1:]}."


class Finding(Frozen):
    """What a diagnostic found. `where` is a run's name or a method's."""

    check: str
    where: str
    message: str


class ModelToUse(Frozen):
    """The run that a study hands over, by the name of its folder, and why it is that one."""

    run: str
    method: str
    title: str
    model: str
    seed: int
    why: str
    card: bool = False
    """Whether the artefact has a README.md with loading code."""


class BudgetReport(Frozen):
    """How the study was fitted into its time limit. With a `problem`, nothing else is known."""

    problem: str | None = None
    budget_seconds: float | None = None
    equal: Effort = "examples"
    reduced: tuple[str, ...] = ()
    """What was reduced, in words."""
    steps: dict[str, int] = {}
    corrections: tuple[str, ...] = ()
    """What was changed while the study ran, in words."""
    fits: bool = True
    planned_seconds: float | None = None
    took_seconds: float | None = None


class FailedRun(Frozen):
    """A run that did not finish."""

    run: str
    message: str


class Interval(Frozen):
    """A mean with its 95 % interval; None where there is no number."""

    mean: float | None = None
    low: float | None = None
    high: float | None = None


class ComparisonRow(Frozen):
    """One row of the comparison: a method on a model, a sentence baseline or an outside system."""

    name: str
    title: str
    kind: RowKind
    model: str | None = None
    seeds: int = 1
    """Those of all its runs."""
    compared_seeds: int = Field(default_factory=lambda row: row["seeds"])
    """Those that `scores` are means of: the seeds that all compared methods have."""
    compared_runs: int = 0
    """The finished runs of these seeds; 0 for a row without runs."""
    status: dict[str, int] = {}
    """Number of runs by status."""
    runs: tuple[str, ...] = ()
    """Names of run folders."""
    scores: dict[str, Interval] = {}
    """By metric: mean over seeds and documents, with a bootstrap interval over document groups."""
    gain: Interval | None = None
    """Over zero-shot in the primary metric, with the simultaneous interval of the verdict."""
    costs: dict[str, Cost] = {}
    """By the name of a `CostAxis`."""
    best_epoch: float | None = None
    validation_loss: float | None = None
    notes: tuple[str, ...] = ()

    def score(self, metric: str) -> Interval:
        """A score, empty if the row has none."""
        return self.scores.get(metric, Interval())

    def cost(self, axis: str) -> float | None:
        """A cost in the unit of its axis; None if it was not measured."""
        found = self.costs.get(axis)
        return found.value if found else None


class Summary(Frozen):
    """What a study found."""

    name: str
    created_at: str
    tuneoff_version: str
    primary_metric: str
    signature: str | None = None
    """The ROUGE variant."""
    machine: SerializeAsAny[Machine] = Machine()
    data: DataFile = DataFile()
    rows: tuple[ComparisonRow, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    """One for each base model."""
    winner: ModelToUse | None = None
    no_winner: str | None = None
    """Why finished runs hand over no model, as sentences."""
    claims: tuple[JudgedClaim, ...] = ()
    data_sizes: tuple[DataSizeVerdict, ...] = ()
    search: SearchFile | None = None
    budget: BudgetReport | None = None
    confounds: tuple[Confound, ...] = ()
    diagnostics: tuple[Finding, ...] = ()
    failures: tuple[FailedRun, ...] = ()

    @property
    def cautions(self) -> tuple[str, ...]:
        """What was known of the data before the first run, and what hands over no model; to be read first."""
        said = {sentence for verdict in self.verdicts for sentence in (verdict.too_small, verdict.says_nothing)}
        none = () if self.no_winner is None or self.no_winner in said else (self.no_winner,)
        return (*none, *self.data.all_cautions)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The verdicts in sentences, the answer first."""
        return tuple(self._sentences())

    def _sentences(self) -> Iterator[str]:
        for verdict in self.verdicts:
            for sentence in verdict.sentences:
                yield f"{verdict.block}: {sentence}" if verdict.block else sentence
