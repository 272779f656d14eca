"""The prior of the seed variances recovers what cells were drawn from; moderated variances by hand; shared seeds."""

import numpy as np
import pytest
from scipy import stats

from tuneoff.stats.moderation import seed_prior, seeds_move_together, study_differences
from tuneoff.stats.multiple_comparisons import simultaneous_half_widths
from tuneoff.stats.variance_components import Floats, MeanEstimates, estimate_means, pairwise_differences

VARIES = np.array([False, True, True, True, True, True])


def cells(rng: np.random.Generator, sets: int, methods: int, prior_df: float, df: int = 2) -> Floats:
    """(sets, methods) variances of `df` degrees of freedom whose true values are drawn around 0.25."""
    true = np.full((sets, methods), 0.25)
    if np.isfinite(prior_df):
        true = 0.25 * prior_df / rng.chisquare(prior_df, true.shape)
    found: Floats = true * rng.chisquare(df, true.shape) / df
    return found


@pytest.mark.parametrize("prior_df", [2.0, 6.0])
def test_many_cells_show_the_distribution_of_the_true_variances(prior_df: float) -> None:
    prior = seed_prior(cells(np.random.default_rng(1), 500, 6, prior_df), np.full(500, 2.0))
    assert prior is not None
    assert prior.df == pytest.approx(prior_df, rel=0.25)
    assert prior.variance == pytest.approx(0.25, rel=0.1)
    assert prior.cells == 3000


def test_a_prior_of_few_cells_is_neither_certain_nor_absent_and_errs_upwards() -> None:
    rng = np.random.default_rng(2)
    equal = [seed_prior(cells(rng, 4, 5, np.inf), np.full(4, 2.0)) for _ in range(300)]
    assert {1.0 <= one.df <= 20.0 for one in equal if one} == {True}
    assert np.mean([one.df == 20.0 for one in equal if one]) > 0.3
    typical = np.exp(np.mean([np.log(one.variance) for one in equal if one]))
    assert 0.25 < typical < 0.35  # 0.25 is true
    wild = 10.0 ** rng.uniform(-6, 3, (4, 5))
    prior = seed_prior(wild, np.full(4, 2.0))
    assert prior is not None
    assert prior.df == 1.0


def test_fewer_than_fifteen_cells_and_cells_without_variance_give_no_prior() -> None:
    rng = np.random.default_rng(3)
    assert seed_prior(cells(rng, 2, 7, np.inf), np.full(2, 2.0)) is None
    assert seed_prior(cells(rng, 3, 5, np.inf), np.full(3, 2.0)) is not None
    assert seed_prior(np.zeros((4, 5)), np.full(4, 2.0)) is None
    one_zero = cells(rng, 4, 5, np.inf)
    one_zero[0, 0] = 0.0
    assert seed_prior(one_zero, np.full(4, 2.0)) is not None


def study(rng: np.random.Generator, shared: float = 0.0, sets: int = 4) -> tuple[MeanEstimates, list[Floats]]:
    """Zero-shot and five methods with three seeds; `shared` is the SD of what a seed does to all methods alike."""
    trainings = 0.3 * rng.standard_normal((sets, 6, 3)) + shared * rng.standard_normal((sets, 1, 3))
    trainings[:, 0] = 0.0
    table = rng.normal(0, 5, 200) + rng.normal(0, 2, (6, 3, 200)) + trainings[0][:, :, None]
    table[0] = table[0, :1]
    return estimate_means(table, VARIES), [table.mean(axis=2), *trainings[1:]]


def test_a_pair_has_the_moderated_variances_of_both_methods() -> None:
    means, trainings = study(np.random.default_rng(4))
    found = study_differences(means, trainings)
    assert found.prior is not None
    assert found.prior.cells == 20
    assert not found.shared
    own = trainings[0].var(axis=1, ddof=1)
    weight = found.prior.df / (found.prior.df + 2)
    moderated = (weight * found.prior.variance + (1 - weight) * own) / 3
    differences = found.differences
    assert differences.seeds[0] == pytest.approx(moderated[1])  # zero-shot and the first method
    assert differences.seeds_df[0] == pytest.approx(found.prior.df + 2)
    assert differences.seeds[-1] == pytest.approx(moderated[4] + moderated[5])
    squares = moderated[4] ** 2 + moderated[5] ** 2
    assert differences.seeds_df[-1] == pytest.approx(differences.seeds[-1] ** 2 / squares * (found.prior.df + 2))


def test_moderated_intervals_are_narrower_on_average() -> None:
    rng = np.random.default_rng(5)
    ratios = []
    for _ in range(40):
        means, trainings = study(rng)
        before = simultaneous_half_widths(pairwise_differences(means))
        ratios.append(simultaneous_half_widths(study_differences(means, trainings).differences) / before)
    assert 0.80 < np.mean(ratios) < 0.97


def test_an_erratic_method_keeps_its_own_variance_and_the_others_nearly_theirs() -> None:
    means, trainings = study(np.random.default_rng(6))
    calm = study_differences(means, trainings)
    trainings[1][5, 0] -= 20.0
    wild = study_differences(means, trainings)
    assert wild.spread.erratic.tolist() == [False] * 5 + [True]
    with_it = wild.differences.second == 5
    assert wild.prior is not None
    assert wild.prior.cells == 16
    assert (wild.differences.seeds[with_it] > 10 * calm.differences.seeds[with_it]).all()
    assert wild.differences.seeds[~with_it].max() < 2 * calm.differences.seeds[~with_it].max()


def test_an_effect_of_seeds_on_all_methods_is_found_and_then_pairs_share_it() -> None:
    rng = np.random.default_rng(7)
    found = [study_differences(*study(rng, shared=1.0)) for _ in range(50)]
    assert np.mean([one.shared for one in found]) > 0.95
    assert all(one.prior is None for one in found if one.shared)
    false = sum(seeds_move_together(study(rng)[1][1:]) for _ in range(500))
    assert false <= stats.binom.ppf(0.9995, 500, 0.01)


def test_two_methods_have_the_degrees_of_freedom_of_both() -> None:
    rng = np.random.default_rng(8)
    means = estimate_means(rng.normal(0, 3, (2, 3, 100)) + rng.normal(0, 1, (2, 3, 1)), np.array([True, True]))
    trainings = [rng.normal(size=(2, 3))]
    found = study_differences(means, trainings)
    assert found.differences.seeds_df.tolist() == [4.0]
    assert pairwise_differences(means).seeds_df.tolist() == [2.0]
    assert means.seeds is not None
    assert found.differences.seeds == pytest.approx([np.trace(means.seeds)])


def test_one_seed_has_no_seed_part() -> None:
    table = np.random.default_rng(9).normal(0, 3, (3, 1, 50))
    found = study_differences(estimate_means(table, np.ones(3, dtype=bool)), [])
    assert (found.prior, found.shared, found.spread.trainings) == (None, False, 0)
    assert not found.differences.seeds.any()
