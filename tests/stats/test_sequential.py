"""Levels of looks: their error together, by hand where it is known, and what a look decides."""

import numpy as np
import pytest
from scipy import stats

from tuneoff.stats.sequential import information_at, level_of_look, look, look_seeds, spent
from tuneoff.stats.variance_components import Floats, pair_indices


def test_looks_begin_at_three_seeds_and_are_at_most_four() -> None:
    assert look_seeds(4) == (3, 4)
    assert look_seeds(5) == (3, 4, 5)
    assert look_seeds(6) == (3, 4, 5, 6)
    assert look_seeds(12) == (3, 6, 9, 12)
    with pytest.raises(ValueError, match="more than 3 seeds"):
        look_seeds(3)


def test_all_of_the_error_is_spent_at_the_end_and_none_before_the_beginning() -> None:
    parts = [spent(information, 0.05) for information in (0.0, 0.5, 0.8, 1.0)]
    assert parts == sorted(parts)
    assert parts[0] == 0.0
    assert parts[-1] == pytest.approx(0.05)


def test_information_by_hand() -> None:
    # Of a difference: documents 2 * 0.5, trainings 2 * 3/S. At 3 seeds 1 + 2, at 6 seeds 1 + 1.
    found = information_at(0.5 * np.eye(3), np.full(3, 3.0), (3, 6))
    assert found.tolist() == pytest.approx([2 / 3, 1.0])
    # A method without seeds: 1 + 1 at 3 seeds and 1 + 1/2 at 6, in two of three pairs.
    found = information_at(0.5 * np.eye(3), np.array([0.0, 3.0, 3.0]), (3, 6))
    assert found.tolist() == pytest.approx([(2 / 3 + 2 * 1.5 / 2) / 3, 1.0])
    assert information_at(np.eye(2), np.zeros(2), (3, 6)).tolist() == [1.0, 1.0]


def test_one_look_has_the_usual_level_and_equal_looks_cost_nothing() -> None:
    documents, training = np.eye(3), np.full(3, 2.0)
    assert level_of_look(documents, training, (3,), []) == pytest.approx(0.95, abs=1e-3)
    # Nothing changes from seed to seed, so a second look at the same numbers is no second chance to be wrong.
    first = level_of_look(documents, np.zeros(3), (3, 6), [])
    second = level_of_look(documents, np.zeros(3), (3, 6), [first])
    assert [first, second] == pytest.approx([0.95, 0.95], abs=1e-3)


@pytest.mark.parametrize("training_variance", [0.5, 4.0, 50.0])
def test_the_error_over_all_looks_is_five_per_cent(training_variance: float) -> None:
    looks, draws, methods = (3, 4, 5, 6), 40_000, 4
    documents, training = 0.5 * np.eye(methods), np.full(methods, training_variance)
    levels: list[float] = []
    for _ in looks:
        levels.append(level_of_look(documents, training, looks, levels))
    rng = np.random.default_rng(3)
    by_document = np.sqrt(0.5) * rng.standard_normal((draws, methods, 1))
    trainings = np.sqrt(training_variance) * rng.standard_normal((draws, methods, looks[-1]))
    first, second = pair_indices(methods)
    crossed = np.zeros(draws, dtype=bool)
    for seeds, level in zip(looks, levels, strict=True):
        means = by_document[..., 0] + trainings[..., :seeds].mean(axis=-1)
        largest = np.abs(means[:, first] - means[:, second]).max(axis=1)
        crossed |= largest > np.quantile(largest, level)
    assert 0.044 < crossed.mean() < 0.054
    assert min(levels) > 0.95
    naive = np.zeros(draws, dtype=bool)
    for seeds in looks:
        means = by_document[..., 0] + trainings[..., :seeds].mean(axis=-1)
        largest = np.abs(means[:, first] - means[:, second]).max(axis=1)
        naive |= largest > np.quantile(largest, 0.95)
    assert naive.mean() > crossed.mean() + 0.01


VARIES = np.array([False, True, True, True])


def table(means: tuple[float, ...], seeds: int, seed_sd: float = 0.5, groups: int = 300) -> Floats:
    rng = np.random.default_rng(5)
    found = (
        np.array(means)[:, None, None]
        + rng.normal(0, 5, (4, 1, groups))
        + seed_sd * rng.standard_normal((4, 6, 1))
        + rng.normal(0, 2, (4, 6, groups))
    )
    found[0] = found[0, :1]
    scores: Floats = found[:, :seeds]
    return scores


def test_methods_far_below_are_stopped_and_one_that_is_left_settles_the_study() -> None:
    clear = look(table((10.0, 40.0, 30.0, 25.0), 3), VARIES, (3, 4, 5, 6), [], 0.5)
    assert clear.stopped.tolist() == [True, False, True, True]
    assert clear.candidates.tolist() == [False, True, False, False]
    assert clear.settled
    open_ = look(table((10.0, 40.0, 40.0, 25.0), 3), VARIES, (3, 4, 5, 6), [], 0.5)
    assert open_.stopped.tolist() == [True, False, False, True]
    assert not open_.settled
    assert clear.upper[2, 1] < -0.5
    assert clear.upper[1, 2] > 0


def test_a_margin_that_contains_every_difference_settles_a_tie() -> None:
    assert look(table((40.0, 40.0, 40.0, 40.0), 3), VARIES, (3, 4, 5, 6), [], 10.0).settled


def test_where_documents_limit_the_study_further_seeds_are_not_worth_it() -> None:
    few = look(table((40.0, 40.0, 40.0, 40.0), 3, seed_sd=0.0, groups=20), VARIES, (3, 4, 5, 6), [], 0.5)
    assert few.documents_limit
    many = look(table((40.0, 40.0, 40.0, 40.0), 3, seed_sd=2.0), VARIES, (3, 4, 5, 6), [], 0.5)
    assert not many.documents_limit
    assert many.information < few.information


def test_the_truly_best_method_is_seldom_stopped() -> None:
    rng = np.random.default_rng(6)
    stopped = 0
    for _ in range(100):
        scores = rng.normal(0, 5, (3, 1, 60)) + 0.5 * rng.standard_normal((3, 3, 1)) + rng.normal(0, 2, (3, 3, 60))
        stopped += bool(look(scores, np.ones(3, dtype=bool), (3, 6), [], 0.0).stopped[0])
    assert stopped <= stats.binom.ppf(0.9995, 100, 0.05)
