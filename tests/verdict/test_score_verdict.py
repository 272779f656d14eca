"""Verdicts about given scores, computed again by hand with NumPy, SciPy and, if it is there, statsmodels."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from tuneoff.errors import UserError
from tuneoff.results.summary import PairResult, Verdict
from tuneoff.scores.score_data import ScoreData
from tuneoff.verdict.score_verdict import judge_scores, summarize_scores

Rows = Mapping[str, npt.ArrayLike]


def given(rows: Rows, groups: Sequence[int] | None = None, metric: str = "quality") -> ScoreData:
    """`rows`: system -> scores of its items, or a list of them for each seed."""
    runs = {
        (name, seed): {f"i{at:04}": float(value) for at, value in enumerate(row)}
        for name, values in rows.items()
        for seed, row in enumerate(np.atleast_2d(values))
    }
    return ScoreData(
        systems=tuple(rows),
        scores={metric: runs},
        groups={} if groups is None else {f"i{at:04}": f"g{group}" for at, group in enumerate(groups)},
    )


def pair(verdict: Verdict, first: str, second: str) -> PairResult:
    return next(one for one in verdict.pairs if (one.first, one.second) == (first, second))


def test_two_systems_have_the_paired_t_interval() -> None:
    rng = np.random.default_rng(3)
    hardness = rng.normal(50, 20, 80)
    rows = {"a": hardness + rng.normal(2, 6, 80), "b": hardness + rng.normal(0, 6, 80)}
    found = pair(judge_scores(given(rows)).verdict, "a", "b")
    expected = stats.ttest_rel(rows["a"], rows["b"]).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-3)
    assert found.df == 79
    assert found.difference == pytest.approx(np.mean(rows["a"] - rows["b"]))


def test_binary_scores_have_the_interval_of_the_discordant_items() -> None:
    a = np.repeat([1, 1, 0, 0], [120, 31, 14, 35])
    b = np.repeat([1, 0, 1, 0], [120, 31, 14, 35])
    verdict = judge_scores(given({"a": a, "b": b})).verdict
    n, wins, losses = 200, 31, 14
    difference = (wins - losses) / n
    error = math.sqrt((wins + losses - (wins - losses) ** 2 / n) / (n * (n - 1)))
    half = float(stats.t.ppf(0.975, n - 1)) * error
    found = pair(verdict, "a", "b")
    assert found.difference == pytest.approx(100 * difference)
    assert found.standard_error == pytest.approx(100 * error)
    assert (found.low, found.high) == pytest.approx((100 * (difference - half), 100 * (difference + half)), rel=2e-3)
    assert [one.mean for one in verdict.methods] == pytest.approx([75.5, 67.0])
    assert "Scores are 0 or 1: a mean is the percentage of ones." in verdict.notes


def clustered() -> tuple[Rows, list[int]]:
    rng = np.random.default_rng(8)
    groups = np.repeat(np.arange(40), rng.integers(1, 8, 40))
    shared = rng.normal(0, 9, 40)[groups]
    rows = {
        "a": 50 + shared + rng.normal(0, 4, len(groups)) + rng.normal(0, 5, 40)[groups],
        "b": 49 + shared + rng.normal(0, 4, len(groups)),
    }
    return rows, groups.tolist()


def test_clusters_have_the_error_of_their_sums() -> None:
    rows, groups = clustered()
    found = pair(judge_scores(given(rows, groups)).verdict, "a", "b")
    difference = np.asarray(rows["a"]) - np.asarray(rows["b"])
    sums = np.bincount(groups, weights=difference - difference.mean())
    error = math.sqrt(40 / 39 * (sums**2).sum()) / len(groups)
    assert found.standard_error == pytest.approx(error)
    assert found.df == 39
    assert found.high - found.difference == pytest.approx(float(stats.t.ppf(0.975, 39)) * error, rel=1e-3)
    assert found.standard_error > 1.5 * pair(judge_scores(given(rows)).verdict, "a", "b").standard_error


def test_clusters_have_the_error_that_statsmodels_computes() -> None:
    api = pytest.importorskip("statsmodels.api")
    rows, groups = clustered()
    difference = np.asarray(rows["a"]) - np.asarray(rows["b"])
    fit = api.OLS(difference, np.ones(len(difference))).fit(cov_type="cluster", cov_kwds={"groups": np.array(groups)})
    found = pair(judge_scores(given(rows, groups)).verdict, "a", "b")
    assert found.standard_error == pytest.approx(float(fit.bse[0]))


def test_several_seeds_have_the_error_of_a_two_way_layout() -> None:
    rng = np.random.default_rng(4)
    hardness = rng.normal(50, 20, 60)
    rows = {
        name: np.stack([hardness + mean + rng.normal(0, 5, 60) for _ in range(3)]) + rng.normal(0, 4, 60)
        for name, mean in (("a", 2), ("b", 0))
    }
    # No seed effect at all, so that every way to estimate it gives none.
    rows = {name: values - values.mean(axis=1, keepdims=True) + values.mean() for name, values in rows.items()}
    difference = rows["a"] - rows["b"]  # (S, N)
    items = difference.mean(axis=0)
    found = pair(judge_scores(given({name: values.tolist() for name, values in rows.items()})).verdict, "a", "b")
    assert found.standard_error == pytest.approx(items.std(ddof=1) / math.sqrt(60))


def test_intervals_of_all_pairs_hold_at_once() -> None:
    """The critical value of four systems, by simulation of the largest of six correlated t values."""
    rng = np.random.default_rng(6)
    hardness = rng.normal(50, 20, 30)
    rows = {name: hardness + rng.normal(0, spread, 30) for name, spread in zip("abcd", (2, 4, 8, 3), strict=True)}
    verdict = judge_scores(given(rows)).verdict
    covariance = np.cov(np.stack([np.asarray(rows[name]) for name in "abcd"]))
    draws = rng.multivariate_normal(np.zeros(4), covariance, 200_000)
    scale = np.sqrt(rng.chisquare(29, 200_000) / 29)
    below = np.ones(200_000, dtype=bool)
    for one in verdict.pairs:
        first, second = "abcd".index(one.first), "abcd".index(one.second)
        contrast = np.zeros(4)
        contrast[[first, second]] = 1, -1
        value = np.abs(draws @ contrast) / math.sqrt(contrast @ covariance @ contrast) / scale
        below &= value <= (one.high - one.difference) / one.standard_error
    assert below.mean() == pytest.approx(0.95, abs=0.004)


def test_less_is_better_by_a_flag() -> None:
    rng = np.random.default_rng(3)
    rows = {"a": rng.normal(2.0, 0.2, 100), "b": rng.normal(3.0, 0.2, 100)}
    data = given(rows, metric="perplexity")
    verdict = judge_scores(data, higher_is_better=False).verdict
    assert verdict.best_set == ("a",)
    assert verdict.methods[0].mean == pytest.approx(np.mean(rows["a"]))
    assert pair(verdict, "a", "b").decision == "better"
    assert pair(verdict, "a", "b").difference == pytest.approx(np.mean(rows["b"]) - np.mean(rows["a"]))
    assert not [sentence for sentence in verdict.sentences if "--lower-is-better" in sentence]
    wrong = judge_scores(data).verdict
    assert wrong.best_set == ("b",)
    assert wrong.sentences[1] == (
        "Caution: more counts as better. If less of perplexity is better, add --lower-is-better."
    )


@pytest.mark.parametrize(
    ("metric", "asks"), [("word_perplexity", True), ("WER", True), ("glossary", False), ("acc", False)]
)
def test_only_metrics_of_which_less_is_better_ask_for_the_flag(metric: str, asks: bool) -> None:
    rng = np.random.default_rng(3)
    sentences = judge_scores(given({name: rng.uniform(2, 90, 50) for name in "ab"}, metric=metric)).verdict.sentences
    assert any("--lower-is-better" in sentence for sentence in sentences) == asks


def test_the_scale_decides_unit_and_margin() -> None:
    rng = np.random.default_rng(3)
    shares = judge_scores(given({name: rng.uniform(0, 1, 50) for name in "ab"})).verdict
    points = judge_scores(given({name: rng.uniform(0, 100, 50) for name in "ab"})).verdict
    ratings = judge_scores(given({name: rng.integers(1, 6, 50) for name in "ab"})).verdict
    assert 30 < shares.methods[0].mean < 70
    assert "Scores are between 0 and 1, and given times 100." in shares.notes
    assert (shares.margin, points.margin, ratings.margin) == (0.5, 0.5, 0.0)
    assert (shares.decimals, points.decimals, ratings.decimals) == (1, 1, 2)
    assert any("set a margin with --margin" in note for note in ratings.notes)
    assert judge_scores(given({name: rng.integers(1, 6, 50) for name in "ab"}), margin=0.2).verdict.margin == 0.2
    # A name that is also one of our shares does not limit ratings to a difference of 1.
    rows = {"a": rng.integers(1, 3, 50), "b": rng.integers(4, 6, 50)}
    named, other = (judge_scores(given(rows, metric=name), margin=1.0).verdict for name in ("novelty", "rating"))
    assert named.pairs[0].low <= named.pairs[0].difference <= named.pairs[0].high
    assert [one.regret_bound for one in named.methods] == [one.regret_bound for one in other.methods]
    with pytest.raises(UserError, match="--margin -1: use a number of points"):
        judge_scores(given({"a": [1.0]}), margin=-1)


def test_rare_differences_of_binary_scores_are_named() -> None:
    a, b, c = np.ones(100), np.ones(100), np.ones(100)
    b[:5] = 0
    c[40:80] = 0
    sentences = judge_scores(given({"a": a, "b": b, "c": c})).verdict.sentences
    assert sentences[1].endswith("so the intervals between them are rough: a and b on 5.")
    assert not any("rough:" in one for one in judge_scores(given({"a": a, "c": c})).verdict.sentences)


def test_the_metric_is_the_first_that_most_systems_have() -> None:
    rng = np.random.default_rng(3)
    data = given({name: rng.uniform(0, 100, 50) for name in "ab"}, metric="f1")
    rare = {key: row for key, row in data.scores["f1"].items() if key[0] == "a"}
    both = ScoreData(data.systems, {"rare": rare, "f1": data.scores["f1"], "Exact": data.scores["f1"]})
    verdict = judge_scores(both).verdict
    assert verdict.metric == "f1"
    assert "The scores also have rare and Exact; judge by another metric with --metric." in verdict.notes
    assert judge_scores(both, "exact").verdict.metric == "Exact"
    assert judge_scores(both, "rare").verdict.left_out == ("b",)
    with pytest.raises(UserError, match="--metric bleu: the scores have no such metric; use rare, f1, Exact"):
        judge_scores(both, "bleu")


def test_a_summary_has_the_means_of_the_items_that_are_compared() -> None:
    rng = np.random.default_rng(3)
    rows = {name: rng.uniform(0, 100, 50) for name in "ab"}
    data = given({**rows, "b": rows["b"][:40]})
    judged = judge_scores(data)
    summary = summarize_scores(judged, "mine")
    means = {row.name: row.score("quality").mean for row in summary.rows}
    assert means == pytest.approx({result.method: result.mean for result in judged.verdict.methods})
    assert means["a"] == pytest.approx(np.mean(rows["a"][:40]))
    assert summary.data.counts == {"test": 50}
    assert all(row.score("quality").low is not None for row in summary.rows)


def test_a_summary_of_too_few_items_reports_that() -> None:
    judged = judge_scores(given({"a": [1.0, 20.0], "b": [2.0, 3.0]}))
    [finding] = summarize_scores(judged, "mine").diagnostics
    assert finding.message.startswith("Too small to tell: 2 items, 1 seed. Use 10 items or more.")


def test_a_column_that_cannot_be_of_systems_is_refused() -> None:
    with pytest.raises(UserError, match=r"300 systems \(s0, s1, s2 \.\.\.\), and at most 200 .*--system-column"):
        judge_scores(given({f"s{at}": [1.0, 2.0] for at in range(300)}))
