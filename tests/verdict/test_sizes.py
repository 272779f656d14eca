"""Amounts of data: three outcomes, right as often as they say, and nothing made of noise."""

from dataclasses import replace

import numpy as np
import pytest

from tuneoff.verdict.data_sizes import judge_sizes
from tuneoff.verdict.scores import Scores
from tuneoff.verdict.simulate import binomial_band, simulate_sizes

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
    means = {curve.method: [point.mean for point in curve.points] for curve in found.curves}
    ahead = [max(means, key=lambda name: means[name][place]) for place in range(3)]
    assert (ahead[0], ahead[2]) == ("lora", "full")
    middle = "lora at 100 and 300 and full at 1000" if ahead[1] == "lora" else "lora at 100 and full at 300 and 1000"
    assert found.sentences[0] == f"The highest mean is that of {middle} examples."
    assert "It is not shown" not in " ".join(found.sentences)


def test_one_method_throughout() -> None:
    found = judge_sizes(study((40, 41, 42), (35, 36, 37)), 1000)
    assert found is not None
    assert (found.crossovers[0].outcome, found.crossovers[0].small) == ("throughout", "lora")
    assert found.sentences[:2] == (
        "lora has the highest mean at every amount of data that was tried.",
        "It is not shown that the amount of data changes which of two methods is better.",
    )


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
    assert curve.pays_until == pytest.approx(549, rel=0.3)  # 40 (1 - 1/sqrt 2) / sqrt n = 0.5


def test_where_labels_stop_paying_is_not_guessed_far_beyond_what_was_tried() -> None:
    means = tuple(80 - 60 * size**-0.05 for size in (100, 300, 1000))
    found = judge_sizes(study(means, means, noise=0.1), 1000)
    assert found is not None
    assert found.curves[0].pays_until is None
    assert not any("doubling gains less" in sentence for sentence in found.sentences)


def test_one_share_is_no_curve() -> None:
    shares = study((40, 41, 42), (35, 36, 37))
    assert judge_sizes({1.0: shares[1.0]}, 1000) is None


def test_band_does_not_depend_on_the_order_of_shares() -> None:
    shares = study((40, 41, 42), (35, 41.1, 47))
    assert judge_sizes(dict(reversed(shares.items())), 1000) == judge_sizes(shares, 1000)


def test_a_method_without_a_share_is_named_and_takes_no_seeds_from_the_others() -> None:
    shares = study((40, 41, 42), (35, 36, 37))
    late = shares[1.0]
    under_way = {**late.scores, ("soft_prompt", 0): late.scores["lora", 0]}
    shares[1.0] = replace(late, methods=(*late.methods, "soft_prompt"), scores=under_way)
    found = judge_sizes(shares, 1000)
    assert found is not None
    waits = "Not judged at 10 %, 30 % and 100 % of the data, where runs are missing: soft prompt."
    assert found.sentences[0] == waits
    assert not any("Only one training seed" in sentence for sentence in found.sentences)
    assert found.crossovers == judge_sizes(study((40, 41, 42), (35, 36, 37)), 1000).crossovers  # type: ignore[union-attr]


def with_later(shares: dict[float, Scores], at: tuple[float, ...], seeds: int = 3) -> dict[float, Scores]:
    """The same with two worse methods that have runs at some shares alone."""
    more = dict(shares)
    for share in at:
        rows = {
            (name, seed): {document: value - 10 for document, value in shares[share].scores["lora", seed].items()}
            for name in ("dora", "rslora")
            for seed in range(seeds)
        }
        methods = (*shares[share].methods, "dora", "rslora")
        more[share] = replace(shares[share], methods=methods, scores={**shares[share].scores, **rows})
    return more


def test_a_pair_is_judged_where_both_have_their_runs() -> None:
    """A study under way does its smallest shares last: what others lack there hides nothing of those that have it."""
    shares = study((20, 50, 52), (45, 40, 42))
    found = judge_sizes(with_later(shares, (0.3, 1.0)), 1000)
    assert found is not None
    assert found.sentences[0] == "Not judged at 10 % of the data, where runs are missing: dora and rslora."
    pairs = {(pair.first, pair.second): pair for pair in found.crossovers}
    assert [point.fraction for point in pairs["lora", "full"].band] == [0.1, 0.3, 1.0]
    assert [point.fraction for point in pairs["lora", "dora"].band] == [0.3, 1.0]
    assert (pairs["lora", "full"].outcome, pairs["lora", "full"].low, pairs["lora", "full"].high) == (
        "located",
        100,
        300,
    )
    assert pairs["lora", "dora"].outcome == "throughout"
    assert "lora is better than dora, rslora at every amount of data that was judged." in found.sentences
    assert {curve.method: len(curve.points) for curve in found.curves}["dora"] == 2


def test_runs_under_way_take_no_seeds_from_the_others() -> None:
    shares = study((40, 41, 42), (35, 36, 37))
    found = judge_sizes(with_later(with_later(shares, (0.3, 1.0)), (0.1,), seeds=1), 1000)
    assert found is not None
    assert found.sentences[0] == "Not judged at 10 % of the data, where runs are missing: dora and rslora."
    assert all(point.covers_seeds for pair in found.crossovers for point in pair.band)


def test_a_share_without_a_common_seed_waits() -> None:
    shares = study((40, 41, 42), (35, 36, 37))
    apart = {key: row for key, row in shares[0.1].scores.items() if key in {("lora", 0), ("full", 1)}}
    found = judge_sizes(shares | {0.1: replace(shares[0.1], scores=apart)}, 1000)
    assert found is not None
    assert found.sentences[0] == "Not judged at 10 % of the data, where runs are missing: lora and full."
    assert [point.fraction for point in found.crossovers[0].band] == [0.3, 1.0]


def test_shares_with_one_seed_and_notes_of_single_shares_are_told() -> None:
    shares = study((40, 41, 42), (35, 36, 37))
    few = {key: row for key, row in shares[0.1].scores.items() if key[1] == 0 or key[0] == "lora"}
    shares[0.1] = replace(shares[0.1], scores=few)
    found = judge_sizes(shares, 1000)
    assert found is not None
    assert found.sentences[0].startswith("Only one training seed at 10 % of the data")
    assert [point.covers_seeds for point in found.crossovers[0].band] == [False, True, True]
    assert found.notes == (
        "At 10 % of the data: seeds 1 and 2 are left out for all methods: full did not finish with all of them.",
    )


def test_a_curve_that_is_flat_pays_nowhere() -> None:
    found = judge_sizes(study((40, 40, 40), (45, 44, 43), noise=0.1), 1000)
    assert found is not None
    for curve in found.curves:
        [said] = [sentence for sentence in found.sentences if f"bring {curve.title} " in sentence]
        assert said.endswith("doubling gains less than 0.5 points at every amount that was tried.")


def test_what_no_amount_of_data_changes_has_no_curve() -> None:
    """Zero-shot's one run stands for all seeds, of which one share has fewer: sums round differently."""
    shares = study((40, 40, 40), (45, 46, 47))
    rng = np.random.default_rng(1)
    fixed = {f"d{index}": float(value) for index, value in enumerate(rng.uniform(0, 100, 200))}
    for share, scores in shares.items():
        rows = {key: row for key, row in scores.scores.items() if share > 0.1 or key[1] < 2}
        shares[share] = replace(
            scores,
            methods=("lora", "full", "zero_shot"),
            scores=rows | {("zero_shot", 0): fixed},
            deterministic=frozenset({"zero_shot"}),
        )
    found = judge_sizes(shares, 1000)
    assert found is not None
    curves = {curve.method: curve for curve in found.curves}
    assert curves["zero_shot"].gain_of_doubling is None
    assert curves["full"].gain_of_doubling is not None


def test_crossover_sets_cover() -> None:
    """At least 93 % of 200 simulated studies hold the true crossing: judged by the 99.9 % binomial band."""
    found = simulate_sizes(200)
    low, _ = binomial_band(0.95, 200)
    assert found["coverage"] >= low
    assert found["located"] > 0.3  # the test must be able to fail: crossings are really located
