"""Claims about scores: a one-sided test with Holm's correction supports, simultaneous intervals contradict."""

import numpy as np
from scipy import stats

from tuneoff.results.summary import Verdict
from tuneoff.spec.study import ClaimSpec
from tuneoff.verdict import Scores, decide
from tuneoff.verdict.quality_claims import judge_quality

METHODS = ("a", "b", "c", "d")


def verdict_on(means: tuple[float, ...], seed: int = 0) -> Verdict:
    """Four methods, 100 documents, 3 seeds; the differences of two means have a standard error of about 0.8 points."""
    rng = np.random.default_rng(seed)
    rows: dict[tuple[str, int], dict[str, float | None]] = {}
    for method, mean in zip(METHODS, means, strict=True):
        suits = rng.normal(0, 5, 100)
        for number in range(3):
            scores = mean + suits + rng.normal(0, 3, 100) + rng.normal(0, 0.3)
            rows[method, number] = {f"d{index}": float(score) for index, score in enumerate(scores)}
    return decide(Scores(methods=METHODS, scores=rows))


def claim(kind: str, first: str, second: str, fraction: float = 1.0) -> ClaimSpec:
    return ClaimSpec.model_validate(
        {"text": f"{first} {kind} {second}", "kind": kind, "methods": [first, second], "fraction": fraction}
    )


def outcomes(claims: list[ClaimSpec], verdict: Verdict, margin: float = 0.5) -> list[str]:
    return [found.outcome for found in judge_quality(claims, verdict, None, margin)]


def with_p_values(verdict: Verdict, **p_values: float) -> Verdict:
    """The first pair undecided by its interval, with these p-values."""
    pair = verdict.pairs[0].model_copy(update={"difference": 1.0, "low": -0.2, "high": 2.2, **p_values})
    return verdict.model_copy(update={"pairs": (pair, *verdict.pairs[1:])})


def test_a_claim_is_supported_where_the_interval_of_all_pairs_is_too_wide() -> None:
    verdict = with_p_values(verdict_on((40.0, 40.0, 40.0, 40.0)), p_better=0.01, p_not_worse=0.001, p_not_better=0.6)
    assert outcomes([claim("better", "a", "b")], verdict) == ["supported"]
    [found] = judge_quality([claim("better", "a", "b")], verdict, None, 0.5)
    assert found.why == "difference +1.00 points (-0.20 to +2.20); one-sided p 0.01, Holm's correction for 1 claim"


def test_the_correction_is_for_all_claims_about_quality() -> None:
    verdict = with_p_values(verdict_on((40.0, 40.0, 40.0, 40.0)), p_better=0.02, p_not_worse=0.001, p_not_better=0.6)
    wrong = [claim("better", "c", "d"), claim("better", "d", "c")]
    assert outcomes([claim("better", "a", "b")], verdict) == ["supported"]
    assert outcomes([claim("better", "a", "b"), *wrong], verdict)[0] == "undecided"
    missing = [claim("better", "c", "d", 0.1), claim("better", "d", "c", 0.1)]  # without runs, but they count
    assert outcomes([claim("better", "a", "b"), *missing], verdict) == ["undecided"] * 3


def test_a_turned_claim_has_the_turned_p_values() -> None:
    verdict = with_p_values(verdict_on((40.0, 40.0, 40.0, 40.0)), p_better=0.99, p_not_worse=0.9, p_not_better=0.001)
    assert outcomes([claim("better", "b", "a")], verdict) == ["supported"]
    assert outcomes([claim("at_least", "b", "a")], verdict) == ["supported"]
    assert outcomes([claim("at_least", "a", "b")], verdict) == ["undecided"]
    assert outcomes([claim("equal", "a", "b")], verdict) == ["undecided"]
    both = with_p_values(verdict, p_not_worse=0.002, p_not_better=0.001)
    assert outcomes([claim("equal", "a", "b")], both) == ["supported"]


def test_of_equal_scores_none_is_better_in_either_order() -> None:
    row = {f"d{at:02d}": float(score) for at, score in enumerate(np.linspace(20, 60, 40))}
    verdict = decide(Scores(("a", "b"), {("a", 0): row, ("b", 0): row}, deterministic=frozenset("ab")), 0.5)
    claims = [claim("better", "a", "b"), claim("better", "b", "a")]
    assert outcomes(claims, verdict) == ["undecided"] * 2
    assert outcomes([claim("equal", "a", "b"), claim("at_least", "b", "a")], verdict) == ["supported"] * 2


def test_intervals_contradict_and_decide_where_there_are_more_claims_than_pairs() -> None:
    verdict = verdict_on((40.0, 46.0, 40.0, 40.0))
    assert outcomes([claim("better", "a", "b"), claim("equal", "a", "b")], verdict) == ["contradicted"] * 2
    near = with_p_values(verdict_on((40.0, 40.0, 40.0, 40.0)), p_better=0.0001, p_not_worse=0.0001, p_not_better=0.6)
    assert outcomes([claim("better", "a", "b")] * 6, near) == ["supported"] * 6
    assert outcomes([claim("better", "a", "b")] * 7, near) == ["undecided"] * 7


def test_verdicts_without_p_values_are_judged_by_intervals() -> None:
    verdict = verdict_on((40.0, 46.0, 40.0, 40.0))
    pairs = tuple(pair.model_copy(update={"p_better": None}) for pair in verdict.pairs)
    before = verdict.model_copy(update={"pairs": pairs})
    [found] = judge_quality([claim("better", "b", "a")], before, None, 0.5)
    assert (found.outcome, "Holm" in found.why) == ("supported", False)


def test_a_supported_claim_is_seldom_wrong() -> None:
    """Three claims about four equal methods, of which at least one is supported by chance in at most 5 % of studies."""
    claims = [claim("better", "a", "b"), claim("better", "b", "c"), claim("better", "c", "d")]
    wrong = sum("supported" in outcomes(claims, verdict_on((40.0,) * 4, seed)) for seed in range(200))
    assert wrong <= stats.binom.ppf(0.9995, 200, 0.05)


def test_an_interval_of_all_pairs_excludes_nothing_that_the_test_of_a_pair_does_not() -> None:
    shown = 0
    for seed in range(20):
        for pair in verdict_on((40.0, 42.0, 40.0, 40.0), seed).pairs:
            assert pair.p_better is not None
            assert pair.p_not_worse is not None
            assert pair.p_not_better is not None
            shown += pair.high < 0
            assert pair.p_better < 0.025 or pair.low <= 0
            assert pair.p_better > 0.975 or pair.high >= 0
            assert pair.p_not_worse < 0.025 or pair.low <= -0.5
            assert pair.p_not_better < 0.025 or pair.high >= 0.5
    assert shown > 5
