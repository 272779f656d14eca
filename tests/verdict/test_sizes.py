"""Amounts of data: three outcomes, right as often as they say, and nothing made of noise."""

import numpy as np
import pytest

from tuneoff.verdict.scores import Scores
from tuneoff.verdict.simulate import binomial_band, simulate_sizes
from tuneoff.verdict.sizes import judge_sizes

SHARES = (0.1, 0.3, 1.0)


def study(first: tuple[float, ...], second: tuple[float, ...], noise: float = 3.0) -> dict[float, Scores]:
    """Two trained methods, three seeds, 200 documents; the means of each at each share."""
    rng = np.random.default_rng(3)
    documents = [f"d{index}" for index in range(200)]
    hardness = rng.normal(0, 12, len(documents))

    def rows(mean: float) -> dict[str, float]:
        return dict(zip(documents, mean + hardness + rng.normal(0, noise, len(documents)), strict=True))

    return {
        share: Scores(
            methods=("lora", "full"),
            scores={
                (name, seed): rows(means[place])
                for name, means in (("lora", first), ("full", second))
                for seed in range(3)
            },
        )
        for place, share in enumerate(SHARES)
    }


def test_a_change_is_located_between_the_shares_that_show_it() -> None:
    found = judge_sizes(study((40, 41, 42), (35, 41.1, 47)), 1000)
    assert found is not None
    [pair] = found.crossovers
    assert (pair.outcome, pair.small, pair.large) == ("located", "lora", "full")
    assert (pair.low, pair.high) == (100, 1000)
    assert pair.estimate is not None
    assert 200 < pair.estimate < 400
    assert any("between 100 and 1000 examples" in sentence for sentence in found.sentences)


def test_one_method_throughout() -> None:
    found = judge_sizes(study((40, 41, 42), (35, 36, 37)), 1000)
    assert found is not None
    assert (found.crossovers[0].outcome, found.crossovers[0].small) == ("throughout", "lora")


def test_nothing_is_made_of_noise() -> None:
    found = judge_sizes(study((40, 41, 42), (40, 41, 42)), 1000)
    assert found is not None
    assert found.crossovers[0].outcome == "undetermined"


def test_a_learning_curve_tells_what_doubling_brings() -> None:
    means = tuple(50 - 40 * size**-0.5 for size in (100, 300, 1000))
    found = judge_sizes(study(means, means, noise=0.1), 1000)
    assert found is not None
    truth = 40 * (1000**-0.5 - 2000**-0.5)
    curve = found.curves[0]
    assert curve.gain_of_doubling == pytest.approx(truth, rel=0.3)
    assert curve.gain_low is not None
    assert curve.gain_high is not None
    assert curve.gain_low < truth < curve.gain_high


def test_one_share_is_no_curve() -> None:
    shares = study((40, 41, 42), (35, 36, 37))
    assert judge_sizes({1.0: shares[1.0]}, 1000) is None


def test_band_does_not_depend_on_the_order_of_shares() -> None:
    shares = study((40, 41, 42), (35, 41.1, 47))
    assert judge_sizes(dict(reversed(shares.items())), 1000) == judge_sizes(shares, 1000)


def test_crossover_sets_cover() -> None:
    """At least 93 % of 200 simulated studies hold the true crossing: judged by the 99.9 % binomial band."""
    found = simulate_sizes(200)
    low, _ = binomial_band(0.95, 200)
    assert found["coverage"] >= low
    assert found["located"] > 0.3  # the test must be able to fail: crossings are really located
