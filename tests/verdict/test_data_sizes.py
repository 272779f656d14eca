"""Training set sizes: crossovers, learning curves, and studies with missing runs."""

from dataclasses import replace

import numpy as np
import pytest

from tuneoff.verdict.data_sizes import judge_sizes
from tuneoff.verdict.scores import Scores
from tuneoff.verdict.training_sizes import TrainingSize

FRACTIONS = (0.1, 0.3, 1.0)
SIZES = {0.1: TrainingSize(100, 100), 0.3: TrainingSize(300, 300), 1.0: TrainingSize(1000, 1000)}


def study(first: tuple[float, ...], second: tuple[float, ...], noise: float = 3.0) -> dict[float, Scores]:
    """Two trained methods, three seeds, 200 documents, with the given means at each fraction."""
    rng = np.random.default_rng(3)
    documents = [f"d{index}" for index in range(200)]
    hardness = rng.normal(0, 12, len(documents))

    def rows(mean: float) -> dict[str, float]:
        return dict(zip(documents, mean + hardness + rng.normal(0, noise, len(documents)), strict=True))

    return {
        fraction: Scores(
            methods=("lora", "full"),
            scores={
                (name, seed): rows(means[index])
                for name, means in (("lora", first), ("full", second))
                for seed in range(3)
            },
        )
        for index, fraction in enumerate(FRACTIONS)
    }


def test_a_crossover_lies_between_the_sizes_with_significant_signs() -> None:
    found = judge_sizes(study((40, 41, 42), (35, 41.1, 47)), SIZES)
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
    lora, full = ("100 and 300", "1000") if ahead[1] == "lora" else ("100", "300 and 1000")
    assert found.sentences[0] == f"Highest mean: lora at {lora} examples; full at {full} examples."
    assert "No significant change" not in " ".join(found.sentences)


def test_one_method_is_better_throughout() -> None:
    found = judge_sizes(study((40, 41, 42), (35, 36, 37)), SIZES)
    assert found is not None
    assert (found.crossovers[0].outcome, found.crossovers[0].small) == ("throughout", "lora")
    assert found.sentences[:2] == (
        "lora has the highest mean at every training set size.",
        "No significant change of the better method with the training set size.",
    )


def test_equal_methods_have_no_crossover() -> None:
    found = judge_sizes(study((40, 41, 42), (40, 41, 42)), SIZES)
    assert found is not None
    assert found.crossovers[0].outcome == "undetermined"


def test_gain_of_doubling_of_a_power_law() -> None:
    means = tuple(50 - 40 * size**-0.5 for size in (100, 300, 1000))
    found = judge_sizes(study(means, means, noise=0.1), SIZES)
    assert found is not None
    truth = 40 * (1000**-0.5 - 2000**-0.5)
    curve = found.curves[0]
    assert curve.gain_of_doubling == pytest.approx(truth, rel=0.3)
    assert curve.gain_low is not None
    assert curve.gain_high is not None
    assert curve.gain_low < truth < curve.gain_high
    assert curve.pays_until == pytest.approx(549, rel=0.3)  # 40 (1 - 1/sqrt 2) / sqrt n = 0.5


def test_a_curve_is_not_extrapolated_far_beyond_the_largest_size() -> None:
    means = tuple(80 - 60 * size**-0.05 for size in (100, 300, 1000))
    found = judge_sizes(study(means, means, noise=0.1), SIZES)
    assert found is not None
    assert found.curves[0].pays_until is None
    assert not any("doubling adds less" in sentence for sentence in found.sentences)


def test_one_fraction_is_not_enough() -> None:
    fractions = study((40, 41, 42), (35, 36, 37))
    assert judge_sizes({1.0: fractions[1.0]}, SIZES) is None


def test_the_order_of_fractions_does_not_matter() -> None:
    fractions = study((40, 41, 42), (35, 41.1, 47))
    assert judge_sizes(dict(reversed(fractions.items())), SIZES) == judge_sizes(fractions, SIZES)


def test_a_method_without_complete_runs_is_named_and_excludes_no_seeds_of_the_others() -> None:
    fractions = study((40, 41, 42), (35, 36, 37))
    late = fractions[1.0]
    under_way = {**late.scores, ("soft_prompt", 0): late.scores["lora", 0]}
    fractions[1.0] = replace(late, methods=(*late.methods, "soft_prompt"), scores=under_way)
    found = judge_sizes(fractions, SIZES)
    assert found is not None
    missing = "Not judged at 10 %, 30 % and 100 % of the data: runs of soft prompt are missing."
    assert found.sentences[0] == missing
    assert not any("Only one training seed" in sentence for sentence in found.sentences)
    assert found.crossovers == judge_sizes(study((40, 41, 42), (35, 36, 37)), SIZES).crossovers  # type: ignore[union-attr]


def with_later(fractions: dict[float, Scores], at: tuple[float, ...], seeds: int = 3) -> dict[float, Scores]:
    """Adds two worse methods that have runs only at the fractions `at`."""
    more = dict(fractions)
    for fraction in at:
        rows = {
            (name, seed): {
                document: None if value is None else value - 10
                for document, value in fractions[fraction].scores["lora", seed].items()
            }
            for name in ("dora", "rslora")
            for seed in range(seeds)
        }
        methods = (*fractions[fraction].methods, "dora", "rslora")
        more[fraction] = replace(fractions[fraction], methods=methods, scores={**fractions[fraction].scores, **rows})
    return more


def test_a_pair_is_judged_where_both_have_their_runs() -> None:
    """An unfinished study runs its smallest fractions last; methods missing there do not hide the others."""
    fractions = study((20, 50, 52), (45, 40, 42))
    found = judge_sizes(with_later(fractions, (0.3, 1.0)), SIZES)
    assert found is not None
    assert found.sentences[0] == "Not judged at 10 % of the data: runs of dora and rslora are missing."
    pairs = {(pair.first, pair.second): pair for pair in found.crossovers}
    assert [point.fraction for point in pairs["lora", "full"].band] == [0.1, 0.3, 1.0]
    assert [point.fraction for point in pairs["lora", "dora"].band] == [0.3, 1.0]
    assert (pairs["lora", "full"].outcome, pairs["lora", "full"].low, pairs["lora", "full"].high) == (
        "located",
        100,
        300,
    )
    assert pairs["lora", "dora"].outcome == "throughout"
    assert "lora is better than dora and rslora at every training set size with complete runs." in found.sentences
    assert {curve.method: len(curve.points) for curve in found.curves}["dora"] == 2


def test_unfinished_methods_exclude_no_seeds_of_the_others() -> None:
    fractions = study((40, 41, 42), (35, 36, 37))
    found = judge_sizes(with_later(with_later(fractions, (0.3, 1.0)), (0.1,), seeds=1), SIZES)
    assert found is not None
    assert found.sentences[0] == "Not judged at 10 % of the data: runs of dora and rslora are missing."
    assert all(point.covers_seeds for pair in found.crossovers for point in pair.band)


def test_a_fraction_without_a_common_seed_is_not_judged() -> None:
    fractions = study((40, 41, 42), (35, 36, 37))
    apart = {key: row for key, row in fractions[0.1].scores.items() if key in {("lora", 0), ("full", 1)}}
    found = judge_sizes(fractions | {0.1: replace(fractions[0.1], scores=apart)}, SIZES)
    assert found is not None
    assert found.sentences[0] == "Not judged at 10 % of the data: runs of lora and full are missing."
    assert [point.fraction for point in found.crossovers[0].band] == [0.3, 1.0]


def test_fractions_with_one_seed_and_notes_of_single_fractions_are_named() -> None:
    fractions = study((40, 41, 42), (35, 36, 37))
    few = {key: row for key, row in fractions[0.1].scores.items() if key[1] == 0 or key[0] == "lora"}
    fractions[0.1] = replace(fractions[0.1], scores=few)
    found = judge_sizes(fractions, SIZES)
    assert found is not None
    assert found.sentences[0].startswith("Only one training seed at 10 % of the data")
    assert [point.covers_seeds for point in found.crossovers[0].band] == [False, True, True]
    assert found.notes == (
        "At 10 % of the data: seeds 1 and 2 are excluded for all methods: full did not finish with all of them.",
    )


def test_a_flat_curve_gains_less_than_the_margin_everywhere() -> None:
    found = judge_sizes(study((40, 40, 40), (45, 44, 43), noise=0.1), SIZES)
    assert found is not None
    for curve in found.curves:
        [said] = [sentence for sentence in found.sentences if f"points for {curve.title} " in sentence]
        assert said.endswith("doubling adds less than 0.5 points at every training set size.")


def test_a_method_that_does_not_depend_on_the_data_has_no_fitted_curve() -> None:
    """The one run of zero-shot counts for every seed. One fraction has fewer seeds, so sums round differently."""
    fractions = study((40, 40, 40), (45, 46, 47))
    rng = np.random.default_rng(1)
    fixed = {f"d{index}": float(value) for index, value in enumerate(rng.uniform(0, 100, 200))}
    for fraction, scores in fractions.items():
        rows = {key: row for key, row in scores.scores.items() if fraction > 0.1 or key[1] < 2}
        fractions[fraction] = replace(
            scores,
            methods=("lora", "full", "zero_shot"),
            scores=rows | {("zero_shot", 0): fixed},
            deterministic=frozenset({"zero_shot"}),
        )
    found = judge_sizes(fractions, SIZES)
    assert found is not None
    curves = {curve.method: curve for curve in found.curves}
    assert curves["zero_shot"].gain_of_doubling is None
    assert curves["full"].gain_of_doubling is not None


def test_a_better_method_that_changes_twice_is_not_called_unchanged() -> None:
    found = judge_sizes(study((45, 35, 45), (40, 41, 40)), SIZES)
    assert found is not None
    [pair] = found.crossovers
    assert (pair.outcome, pair.small, pair.large, pair.low) == ("changes more than once", "lora", "lora", None)
    assert (
        "Which of lora and full is better changes more than once with the training set size: lora is better at 100 and "
        "1000 examples; full is better at 300 examples."
    ) in found.sentences
    assert not any("No significant change" in line or "undetermined" in line for line in found.sentences)


def test_the_curve_is_over_the_examples_that_were_read() -> None:
    means = tuple(50 - 40 * size**-0.5 for size in (100, 300, 400))
    read = SIZES | {1.0: TrainingSize(available=1000, read=400, steps=50)}
    found = judge_sizes(study(means, means, noise=0.1), read)
    assert found is not None
    curve = found.curves[0]
    assert [point.examples for point in curve.points] == [100, 300, 400]
    assert [point.examples for point in found.crossovers[0].band] == [100, 300, 400]
    assert curve.gain_of_doubling == pytest.approx(40 * (400**-0.5 - 800**-0.5), rel=0.3)
    assert found.sentences[0].startswith("Training did not read all examples: 400 of 1000 at 100 % of the data.")


def test_fractions_of_which_the_same_number_was_read_have_no_learning_curve() -> None:
    read = {fraction: TrainingSize(size.available, read=90) for fraction, size in SIZES.items()}
    found = judge_sizes(study((40, 41, 42), (35, 41.1, 47)), read)
    assert found is not None
    assert found.curves[0].gain_of_doubling is None
    text = " ".join(found.sentences)
    assert "At 10 %, 30 % and 100 % of the data, training read the same number of examples (90)" in text
    assert "the change lies between 10 % and 100 % of the data." in text
    assert "examples." not in text.split("no learning curve is fitted.")[1]
    assert found.crossovers[0].estimate is None
