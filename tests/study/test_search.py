"""Equal trials and pruning: what is tried, where the refinement trial goes, who is pruned, and what that saves."""

import math
import random

import pytest

from support.planned import curve_of, record_of, resources_of, study_of
from tuneoff.methods import METHODS
from tuneoff.results.run_record import Record
from tuneoff.results.study_state import PruningSavings
from tuneoff.study import planner, search
from tuneoff.study.search import Schedule, SecondLook, Trial

LOW, MIDDLE, HIGH = search.grid("lora", "learning_rate", 3)


def test_the_refinement_trial_goes_outwards_from_an_edge_and_inwards_otherwise() -> None:
    rates = search.grid("lora", "learning_rate", 3)
    assert rates == (1e-4, 5.5e-4, 3e-3)

    def refined(*losses: float) -> float:
        trials = [Trial(rate, loss) for rate, loss in zip(rates, losses, strict=True)]
        value = search.refinement_value("lora", "learning_rate", trials)[0]
        assert isinstance(value, float)
        return value

    assert refined(1, 2, 3) < 1e-4
    assert refined(3, 2, 1) > 3e-3
    assert 5.5e-4 < refined(3, 1, 2) < 3e-3
    assert 1e-4 < refined(2, 1, 3) < 5.5e-4
    assert refined(math.inf, math.inf, math.inf) < 1e-4
    assert 1e-4 < refined(2, 1, math.inf) < 5.5e-4


@pytest.mark.parametrize("method", [name for name in METHODS if METHODS[name].search])
def test_three_rates_of_two_trials_stay_inside_the_range(method: str) -> None:
    [(name, (low, high))] = METHODS[method].search.items()
    rates = search.grid(method, name, 2)
    assert all(isinstance(rate, float) for rate in rates)
    for losses, end in (((1.0, 2.0), low), ((2.0, 1.0), high)):
        tried = [Trial(rate, loss) for rate, loss in zip(rates, losses, strict=True)]
        assert search.refinement_value(method, name, tried)[0] == pytest.approx(end, rel=0.05)  # rates are rounded


def test_an_edge_needs_three_values_or_more() -> None:
    def is_on_edge(*tried: tuple[float, float], chosen: float | None = None) -> bool:
        trials = [Trial(rate, loss) for rate, loss in tried]
        value = search.best_trial(trials).value if chosen is None else chosen
        return search.is_on_edge("lora", "learning_rate", trials, value)

    assert is_on_edge((1e-4, 3), (1e-3, 2), (1e-2, 1))
    assert is_on_edge((1e-4, 1), (1e-3, 2), (1e-2, 3))
    assert not is_on_edge((1e-4, 2), (1e-3, 1), (1e-2, 3))
    assert is_on_edge((1e-4, 2), (1e-3, 1), (1e-2, 3), chosen=1e-2)  # by its texts
    assert not is_on_edge((1e-4, 2), (1e-3, 1))  # each of two is the outermost, which says nothing


def test_of_two_equal_losses_the_earlier_trial_is_the_best() -> None:
    assert search.best_trial([Trial(1e-4, 2), Trial(1e-3, 1), Trial(1e-2, 1)]).value == 1e-3


def look(value: float, first: float, second: float, score: float) -> SecondLook:
    return SecondLook(value, first, second, score)


@pytest.mark.parametrize(
    ("first", "second", "seeded", "chosen", "by"),
    [
        (look(1, 2.0, 2.1, 30.0), look(2, 2.2, 2.3, 40.0), True, 1, "loss"),  # both losses are lower
        (look(1, 2.0, 2.3, 30.0), look(2, 2.1, 2.2, 40.0), True, 2, "text"),  # the losses overlap
        (look(1, 2.0, 2.3, 30.0), look(2, 2.1, 2.2, 30.0), True, 1, "text"),  # equal texts: the lower mean loss
        (look(1, 2.0, 2.0, 30.0), look(2, 2.2, 2.2, 40.0), False, 2, "text"),  # no seed, so no noise to compare with
        (look(1, 2.0, math.inf, -math.inf), look(2, 2.2, 2.2, 1.0), True, 2, "loss"),  # it diverged once
        (look(1, 2.0, math.inf, -math.inf), look(2, 2.2, 2.2, 1.0), False, 2, "loss"),
    ],
)
def test_texts_decide_where_another_seed_could_change_the_order_of_losses(
    first: SecondLook, second: SecondLook, seeded: bool, chosen: float, by: str
) -> None:
    for pair in ((first, second), (second, first)):
        found, decided = search.choose_by_text(*pair, seeded=seeded)
        assert (found.value, decided) == (chosen, by)


def test_the_two_best_have_the_lowest_losses() -> None:
    tried = [Trial(1e-4, 2), Trial(1e-3, 1), Trial(1e-2, math.inf), Trial(3e-3, 1.5)]
    assert [trial.value for trial in search.two_best(tried)] == [1e-3, 3e-3]
    assert len(search.two_best([Trial(1e-4, math.inf), Trial(1e-3, 1)])) == 1


def test_settings_within_noise_are_those_that_another_seed_could_have_put_first() -> None:
    looks = [look(1e-3, 1.0, 1.1, 30.0), look(3e-3, 1.05, 1.05, 20.0)]
    tried = [Trial(1e-4, 1.5), Trial(1e-3, 1.0), Trial(3e-3, 1.05), Trial(1e-2, 1.09), Trial(1.0, math.inf)]
    # The SD of a seed is 0.05 (0.1 apart, and 0.0): a difference of up to 2 x sqrt(2) x 0.05 = 0.14 is noise.
    assert search.within_noise(looks[0], looks, tried) == (3e-3, 1e-2)
    assert search.within_noise(looks[0], [look(1e-3, 1.0, math.inf, 0.0)], tried) == ()


# Pruning


@pytest.mark.parametrize(
    ("earlier", "highest"),
    [
        ([], None),
        ([2.0], 2.0),
        ([3.0, 1.0], 3.0),
        ([3.0, 1.0, 2.0], 2.0),
        ([1.0, 2.0, 3.0, 4.0], 3.0),
        ([2.0, 2.0], 2.0),
    ],
)
def test_the_better_half_continues(earlier: list[float], highest: float | None) -> None:
    assert search.rung_limit(earlier) == highest


def test_the_limit_is_a_rank() -> None:
    """300 draws with ties: a loss within the limit has fewer than half of all strictly better, and conversely."""
    chance = random.Random(0)
    for _ in range(300):
        earlier = [float(chance.randint(0, 5)) for _ in range(chance.randint(1, 9))]
        own = float(chance.randint(0, 5))
        limit = search.rung_limit(earlier)
        assert limit is not None
        better = sum(loss < own for loss in earlier)
        assert (own <= limit) == (better < (len(earlier) + 1) / 2)


@pytest.mark.parametrize(
    ("steps", "warmup", "wanted"),
    [
        (50, 0.06, (13, 25)),
        (40, 0.3, (20,)),  # the quarter lies in the warm-up of 12 steps
        (40, 0.24, (20,)),  # the warm-up ends with step 10
        (40, 0.6, ()),
        (12, 0.06, (6,)),  # the quarter comes before step 5
        (8, 0.0, ()),
        (1, 0.0, ()),
    ],
)
def test_rungs_lie_after_the_warm_up(steps: int, warmup: float, wanted: tuple[int, ...]) -> None:
    assert search.rungs(steps, warmup) == wanted


def test_limits_come_from_the_trials_that_reached_a_rung() -> None:
    assert search.pruning_limits(40, 0.06, []) == ((10, None), (20, None))
    assert search.pruning_limits(40, 0.06, [{10: 3.0, 20: 2.0}, {10: 1.0}, {}]) == ((10, 3.0), (20, 2.0))


def test_the_middle_comes_first() -> None:
    assert search.from_the_middle((1, 2, 3, 4, 5)) == (3, 2, 4, 1, 5)
    assert search.from_the_middle((1, 2, 3, 4)) == (2, 3, 1, 4)
    assert search.from_the_middle((1,)) == (1,)


def test_neighbours_are_compared_where_both_were() -> None:
    """The refinement trial goes towards the better neighbour of the best, which may be one that was pruned."""

    def goes_down(low: Trial, high: Trial) -> bool:
        tried = [low, Trial(MIDDLE, 1.0, {10: 2.0, 20: 1.5}), high]
        value, _ = search.refinement_value("lora", "learning_rate", tried)
        assert isinstance(value, float)
        assert isinstance(MIDDLE, float)
        return value < MIDDLE

    whole = {10: 3.0, 20: 2.0}
    assert goes_down(Trial(LOW, math.inf, {10: 2.9}), Trial(HIGH, 1.9, whole))
    assert not goes_down(Trial(LOW, math.inf, {10: 3.1}), Trial(HIGH, 1.9, whole))
    assert goes_down(Trial(LOW, math.inf, {10: 3.1, 20: 1.8}), Trial(HIGH, 1.9, whole))  # the last rung of both
    assert goes_down(Trial(LOW, math.inf, {10: 3.0}), Trial(HIGH, math.inf, {10: 3.1, 20: 2.2}))
    assert not goes_down(Trial(LOW, math.inf), Trial(HIGH, math.inf, {10: 9.0}))  # what diverged comes last
    assert goes_down(Trial(LOW, math.inf, {10: 9.0}), Trial(HIGH, math.inf))


def test_savings_are_counted_at_the_speed_of_each_trial() -> None:
    [run, *_] = planner.plan(study_of(methods=("lora",)), planner.ContentHashes("d", {"starter": "a"}), {}).runs
    schedule = Schedule(40, frozenset({30, 40}))

    def record(steps: int, checks: tuple[int, ...], train: float, evaluate: float, cut_at: int | None) -> Record:
        curve = curve_of(dict.fromkeys(checks, 1.0), steps=steps, cut_at=cut_at)
        return record_of(run).model_copy(
            update={"curve": curve, "resources": resources_of(train=train, evaluate=evaluate)}
        )

    def saved(*records: Record) -> PruningSavings:
        return search.pruning_savings([(each, schedule) for each in records])

    # 30 steps of 2 s and both checks of 5 s were saved, one check of 5 s was extra
    pruned = record(10, (10,), 20.0, 5.0, 10)
    assert saved(pruned) == PruningSavings(steps=30, seconds=30 * 2 + (2 - 1) * 5)
    # a trial that went to its end only cost two extra checks of 5 s
    whole = record(40, (10, 20, 30, 40), 80.0, 20.0, None)
    assert saved(whole) == PruningSavings(steps=0, seconds=-10)
    assert saved(pruned, whole) == PruningSavings(steps=30, seconds=55)
    unmeasured = pruned.model_copy(update={"resources": None})
    assert saved(unmeasured, whole) == PruningSavings(steps=30, seconds=None)
