"""From scores to decisions, recommendations and sentences."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tuneoff.results.cost_axes import Cost
from tuneoff.results.summary import Verdict
from tuneoff.verdict import Scores, decide
from tuneoff.verdict.rounding import bound_text
from tuneoff.verdict.study_size import StudySize

METHODS = ("zero_shot", "lora", "full")


def made(
    means: Mapping[str, float],
    *,
    seeds: int = 3,
    documents: int = 200,
    noise: float = 2.0,
    seed_sd: float = 0.05,
    costs: Mapping[str, Mapping[str, Cost]] | None = None,
) -> Scores:
    rng = np.random.default_rng(11)
    hardness = rng.normal(0, 12, documents)
    rows: dict[tuple[str, int], dict[str, float | None]] = {}
    for method, mean in means.items():
        runs = 1 if method == "zero_shot" else seeds
        suits = rng.normal(0, noise, documents)
        for seed in range(runs):
            values = mean + hardness + suits + rng.normal(0, noise / 2, documents) + rng.normal(0, seed_sd)
            rows[method, seed] = {f"d{index}": float(value) for index, value in enumerate(values)}
    return Scores(
        methods=tuple(means),
        scores=rows,
        deterministic=frozenset({"zero_shot"} & set(means)),
        titles={"zero_shot": "Zero-shot", "lora": "LoRA", "full": "Full fine-tuning"},
        costs=costs or {},
    )


def pair(verdict: Verdict, first: str, second: str) -> tuple[float, float, float, str]:
    """Difference, low, high and decision of `first` against `second`, in whichever order the verdict has them."""
    for found in verdict.pairs:
        if (found.first, found.second) == (first, second):
            return found.difference, found.low, found.high, found.decision
        if (found.first, found.second) == (second, first):
            turned = {"better": "worse", "worse": "better"}.get(found.decision, found.decision)
            return -found.difference, -found.high, -found.low, turned
    raise AssertionError(f"no pair {first}, {second}")


def test_a_clear_order_with_a_tie_at_the_top() -> None:
    verdict = decide(made({"zero_shot": 20.0, "lora": 40.0, "full": 40.0}, noise=1.0), margin=1.0)
    assert pair(verdict, "lora", "zero_shot")[3] == "better"
    assert pair(verdict, "lora", "full")[3] == "tie"
    assert set(verdict.best_set) == {"lora", "full"}
    text = " ".join(verdict.sentences)
    assert "are a tie: any difference is within 1 point" in text
    assert "LoRA is better than Zero-shot" in text
    assert "by more than the margin of 1 point" in text


def test_small_studies_show_no_difference_and_report_what_may_be_hidden() -> None:
    verdict = decide(made({"lora": 40.0, "full": 40.5}, documents=16, noise=9.0))
    difference, low, high, decision = pair(verdict, "lora", "full")
    assert decision == "no difference shown"
    assert low < difference < high
    assert verdict.pairs[0].size == "not settled"
    assert any("no difference shown" in line and "may be hidden" in line for line in verdict.sentences)
    assert not any("tie" in line for line in verdict.sentences)
    assert verdict.smallest_detectable is not None
    assert verdict.smallest_detectable > 0.5


def test_a_real_but_small_difference_is_better_yet_too_small_to_matter() -> None:
    verdict = decide(made({"lora": 40.0, "full": 40.4}, documents=4000, noise=1.0, seed_sd=0.0), margin=1.0)
    assert pair(verdict, "full", "lora")[3] == "better"
    assert verdict.pairs[0].size == "too small to matter"
    assert all(method.not_worse for method in verdict.methods)


def test_one_seed_covers_documents_only() -> None:
    verdict = decide(made({"zero_shot": 20.0, "lora": 40.0, "full": 41.0}, seeds=1))
    assert not verdict.covers_seeds
    assert verdict.methods[1].seed_sd is None
    assert any("Only one training seed" in line for line in verdict.sentences)
    three = decide(made({"zero_shot": 20.0, "lora": 40.0, "full": 41.0}, seeds=3))
    assert three.covers_seeds
    assert not any("Only one training seed" in line for line in three.sentences)


def test_the_only_best_method_is_named() -> None:
    verdict = decide(made({"zero_shot": 20.0, "lora": 30.0, "full": 40.0}))
    assert verdict.best == "full"
    assert verdict.best_set == ("full",)
    assert "Full fine-tuning is the best of these methods" in verdict.sentences[0]
    assert verdict.methods[2].regret_bound == 0
    assert (verdict.methods[1].regret_bound or 0) > 9


NO_COUNTER = Cost(value=None, reason="no counter")
COSTS = {
    "zero_shot": {"train_seconds": Cost(value=0.0), "peak_memory_bytes": Cost(value=1e9)},
    "lora": {"train_seconds": Cost(value=60.0), "peak_memory_bytes": Cost(value=2e9), "energy_joules": NO_COUNTER},
    "full": {"train_seconds": Cost(value=90.0), "peak_memory_bytes": Cost(value=4e9), "energy_joules": NO_COUNTER},
}


def test_the_cheapest_method_that_is_not_worse_is_recommended() -> None:
    tied = made({"zero_shot": 20.0, "lora": 40.0, "full": 40.0}, noise=1.0, costs=COSTS)
    by_axis = {entry.axis: entry for entry in decide(tied, margin=1.0).recommendations}
    sentences = decide(tied, margin=1.0).sentences
    assert (by_axis["train_seconds"].method, by_axis["train_seconds"].settled) == ("lora", True)
    assert by_axis["peak_memory_bytes"].method == "lora"
    assert by_axis["energy_joules"].method is None
    assert "Cheapest in training time and peak memory of all methods within 1 point of the best: LoRA." in sentences
    assert by_axis["energy_joules"].reason == "no counter (LoRA, Full fine-tuning)"
    # With a margin of 30 points even zero-shot will do.
    wide = {entry.axis: entry for entry in decide(tied, margin=30.0).recommendations}
    assert wide["train_seconds"].method == "zero_shot"


def test_a_recommendation_without_proof_is_not_settled() -> None:
    unclear = made({"lora": 40.0, "full": 40.0}, documents=15, noise=9.0, costs=COSTS)
    verdict = decide(unclear, margin=0.1)
    chosen = next(entry for entry in verdict.recommendations if entry.axis == "train_seconds")
    assert chosen.method == "lora"
    assert not chosen.settled
    assert chosen.regret_bound is not None
    assert chosen.regret_bound > 0.1
    assert any("not settled: regret bound" in line for line in verdict.sentences)


def test_document_and_method_order_do_not_matter() -> None:
    scores = made({"zero_shot": 20.0, "lora": 39.0, "full": 40.0})
    reordered = Scores(
        methods=scores.methods[::-1],
        scores={key: dict(reversed(list(row.items()))) for key, row in reversed(list(scores.scores.items()))},
        deterministic=scores.deterministic,
        titles=scores.titles,
    )
    one, other = decide(scores), decide(reordered)
    for first, second in (("lora", "zero_shot"), ("full", "lora"), ("full", "zero_shot")):
        a, b = pair(one, first, second), pair(other, first, second)
        assert a[:3] == pytest.approx(b[:3], rel=0.01)
        assert a[3] == b[3]


def test_a_constant_for_everyone_changes_no_difference() -> None:
    scores = made({"zero_shot": 20.0, "lora": 39.0, "full": 40.0})
    lifted = Scores(
        methods=scores.methods,
        scores={key: {name: (value or 0) + 7 for name, value in row.items()} for key, row in scores.scores.items()},
        deterministic=scores.deterministic,
    )
    for before, after in zip(decide(scores).pairs, decide(lifted).pairs, strict=True):
        assert (after.difference, after.low, after.high) == pytest.approx((before.difference, before.low, before.high))


def test_grouped_documents_widen_the_intervals() -> None:
    scores = made({"lora": 40.0, "full": 41.0}, documents=60)
    copies = {key: {f"{d}-{n}": v for d, v in row.items() for n in range(3)} for key, row in scores.scores.items()}
    groups = {f"d{index}-{n}": f"g{index}" for index in range(60) for n in range(3)}
    tripled = Scores(methods=scores.methods, scores=copies)
    grouped = Scores(methods=scores.methods, scores=copies, groups=groups)
    plain = decide(scores).pairs[0]
    assert decide(grouped).pairs[0].standard_error == pytest.approx(plain.standard_error, rel=1e-6)
    assert decide(tripled).pairs[0].standard_error < plain.standard_error
    assert decide(grouped).groups == 60
    assert decide(grouped).documents == 180


def test_excluded_methods_seeds_and_documents_are_named() -> None:
    scores = made({"zero_shot": 20.0, "lora": 39.0, "full": 40.0})
    rows = {key: dict(row) for key, row in scores.scores.items() if key != ("full", 2)}
    rows["lora", 0]["d5"] = None
    verdict = decide(
        Scores(
            methods=(*scores.methods, "soft_prompt"),
            scores=rows,
            deterministic=scores.deterministic,
            titles={"soft_prompt": "Soft prompt"},
        )
    )
    assert verdict.seeds == (0, 1)
    assert verdict.documents == 199
    text = " ".join(verdict.sentences)
    assert "Not judged: Soft prompt has no finished, scored run." in text
    assert "Seed 2 is excluded" in text
    assert "1 of 200 test documents are excluded" in text


def test_runs_that_agree_in_every_score_count_as_one_without_seeds() -> None:
    scores = made({"lora": 40.0, "full": 41.0}, seeds=1)
    twice = {(method, seed): row for (method, _), row in scores.scores.items() for seed in range(3)}
    verdict = decide(Scores(methods=scores.methods, scores=twice))
    once = decide(Scores(methods=scores.methods, scores=scores.scores, deterministic=frozenset(scores.methods)))
    assert verdict.covers_seeds
    assert verdict.pairs[0].low == pytest.approx(once.pairs[0].low)


def test_identical_methods_are_a_tie() -> None:
    rows = dict(made({"lora": 40.0}).scores)
    verdict = decide(Scores(methods=("lora", "copy"), scores=rows | {("copy", s): rows["lora", s] for s in range(3)}))
    assert verdict.pairs[0].decision == "tie"
    assert any("the same on every document" in line for line in verdict.sentences)


@pytest.mark.parametrize("methods", [(), ("lora",), ("lora", "full")])
def test_fewer_than_two_methods_give_no_verdict(methods: tuple[str, ...]) -> None:
    rows = {(method, 0): {"d0": 5.0} for method in methods}
    verdict = decide(Scores(methods=methods, scores=rows))
    assert verdict.pairs == ()
    assert verdict.best is None
    assert verdict.sentences[0].startswith("There is no verdict: fewer than two")


def test_the_verdict_survives_json() -> None:
    verdict = decide(made({"zero_shot": 20.0, "lora": 40.0, "full": 40.0}, costs=COSTS))
    text = json.dumps(verdict.model_dump(mode="json"), allow_nan=False)
    assert Verdict.model_validate_json(text) == verdict


def test_the_same_scores_give_the_same_verdict() -> None:
    assert decide(made({"lora": 40.0, "full": 40.0})) == decide(made({"lora": 40.0, "full": 40.0}))


def test_invalid_margins_and_levels_are_rejected() -> None:
    scores = made({"lora": 40.0, "full": 40.0})
    for margin, level in ((-1.0, 0.95), (float("nan"), 0.95), (0.5, 1.0)):
        with pytest.raises(ValueError, match="margin"):
            decide(scores, margin=margin, level=level)
    with pytest.raises(ValueError, match="duplicate method"):
        decide(Scores(methods=("lora", "lora"), scores=scores.scores))


def test_a_tie_of_the_best_methods_is_the_first_sentence() -> None:
    tied = made({"zero_shot": 20.0, "lora": 40.0, "full": 40.0}, noise=1.0)
    assert decide(tied, margin=1.0).sentences[0].startswith("It is a tie: ")
    assert "Every other method is worse" in decide(tied, margin=1.0).sentences[0]
    assert decide(tied, margin=0.0).sentences[0].startswith("No single winner: ")


def test_identical_methods_report_no_detectable_difference() -> None:
    row: dict[str, float | None] = {f"d{index}": float(index) for index in range(20)}
    verdict = decide(Scores(methods=("lora", "full"), scores={(name, 0): row for name in ("lora", "full")}))
    assert verdict.sentences[0].startswith("It is a tie: ")
    assert not any("0.0 points or more" in line for line in verdict.sentences)


@pytest.mark.parametrize("margin", [-0.1, float("nan"), float("inf")])
def test_a_margin_is_finite_and_not_negative(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        decide(made({"lora": 40.0, "full": 41.0}), margin=margin)


def scaled(verdict: Verdict) -> list[float]:
    return [bound for pair in verdict.pairs for bound in (pair.difference, pair.low, pair.high)]


@pytest.mark.parametrize("documents", [2, 4, 9])
def test_below_ten_documents_no_difference_is_reported(documents: int) -> None:
    verdict = decide(made({"zero_shot": 20.0, "lora": 40.0, "full": 40.0}, documents=documents, seeds=1, costs=COSTS))
    assert str(verdict.too_small).startswith(f"Too small to tell: {documents} test documents, 1 seed. ")
    assert verdict.sentences[0] == verdict.too_small
    assert (verdict.pairs, verdict.best, verdict.recommendations, verdict.smallest_detectable) == ((), None, (), None)
    assert [result.regret_bound for result in verdict.methods] == [None] * 3
    assert not any(result.not_worse for result in verdict.methods)
    assert [round(result.mean) for result in verdict.methods] == [
        round(sum(result.seed_means) / len(result.seed_means)) for result in verdict.methods
    ]
    text = " ".join(verdict.sentences)
    assert not any(word in text for word in ("highest", "best", "Cheapest", "intervals"))


def test_ten_documents_are_enough() -> None:
    verdict = decide(made({"lora": 40.0, "full": 41.0}, documents=10, seeds=2))
    assert verdict.too_small is None
    assert len(verdict.pairs) == 1


def test_documents_are_counted_by_group() -> None:
    scores = made({"lora": 40.0, "full": 41.0}, documents=40)
    grouped = replace(scores, groups={f"d{index}": f"g{index % 5}" for index in range(40)})
    assert "5 test documents" in str(decide(grouped).too_small)


def test_the_way_out_of_a_small_study_names_its_rows_and_flags() -> None:
    size = StudySize(examples=40, steps=4, held_out=True)
    small = decide(replace(made({"lora": 40.0, "full": 41.0}, documents=4, seeds=1), size=size)).too_small
    assert small == (
        "Too small to tell: 4 test documents, 4 steps, 1 seed. With 40 rows, add --test-share 0.5, which tests on "
        "about 20, and --seeds 3 (in a new folder: --output)."
    )


def test_a_spread_of_zero_shows_no_difference() -> None:
    rows: dict[tuple[str, int], dict[str, float | None]] = {
        ("lora", 0): {f"d{index}": 75.0 for index in range(40)},
        ("full", 0): {f"d{index}": 50.0 for index in range(40)},
    }
    verdict = decide(Scores(methods=("lora", "full"), scores=rows))
    assert verdict.pairs == ()
    assert "differ by the same amount on each of the 40 test documents" in str(verdict.too_small)


def test_scores_of_zero_are_no_tie() -> None:
    rows = {(method, 0): {f"d{index}": 0.0 for index in range(40)} for method in ("lora", "full")}
    verdict = decide(Scores(methods=("lora", "full"), scores=rows))
    assert str(verdict.says_nothing).startswith("Nothing was measured: every score is 0.")
    assert (verdict.sentences[0], verdict.best, verdict.pairs) == (verdict.says_nothing, None, ())
    assert not any("tie" in sentence for sentence in verdict.sentences)


def test_outputs_that_measure_nothing_precede_the_means() -> None:
    scores = replace(made({"lora": 40.0, "full": 41.0}), says_nothing="Nothing was measured: x.")
    assert decide(scores).sentences[0] == "Nothing was measured: x."
    assert decide(scores).pairs == ()


def test_bounds_stay_within_the_scale_of_the_metric() -> None:
    rng = np.random.default_rng(3)
    rows = {
        (method, seed): dict(zip("abcdefghijkl", rng.choice([0.0, 100.0], 12, p=[low, 1 - low]).tolist(), strict=True))
        for method in ("lora", "full")
        for seed, low in enumerate((0.1, 0.9))
    }
    verdict = decide(Scores(methods=("lora", "full"), scores=rows))
    assert all(-100 <= value <= 100 for value in scaled(verdict))
    assert all((result.regret_bound or 0) <= 100 for result in verdict.methods)
    assert verdict.smallest_detectable is None
    assert verdict.pairs[0].smallest_detectable is None
    assert "No difference that is possible would be detected: use more test documents or more seeds." in (
        verdict.sentences
    )


def test_no_highest_is_named_among_identical_methods() -> None:
    scores = made({"lora": 44.0, "soft_prompt": 39.5}, noise=9.0, documents=20)
    rows = {**scores.scores, **{("full", seed): scores.scores["lora", seed] for seed in range(3)}}
    both = replace(scores, methods=("lora", "full", "soft_prompt"), scores=rows, identical=(("lora", "full"),))
    [answer, same, *_] = decide(both).sentences
    assert "scores highest" not in answer
    assert same == "LoRA and Full fine-tuning wrote the same texts for every document, so none of them is better."


def test_the_only_methods_that_may_be_best_wrote_the_same_texts() -> None:
    """Their difference has an interval all the same: seeds are not known to change both alike."""
    scores = made({"lora": 44.0, "soft_prompt": 20.0, "zero_shot": 18.0}, seed_sd=3.0)
    rows = {**scores.scores, **{("full", seed): scores.scores["lora", seed] for seed in range(3)}}
    names = ("lora", "full", "soft_prompt", "zero_shot")
    verdict = decide(replace(scores, methods=names, scores=rows, identical=(("lora", "full"),)))
    assert set(verdict.best_set) == {"lora", "full"}
    assert pair(verdict, "lora", "full")[3] == "no difference shown"
    assert verdict.sentences[0] == (
        f"No single winner: LoRA and Full fine-tuning wrote the same texts ({verdict.methods[0].mean:.1f}). "
        "Every other method is worse."
    )


def test_a_best_method_without_regret_leaves_no_other_that_may_be_best() -> None:
    """The comparison with the best names one method, although an interval of all pairs includes zero."""
    rng = np.random.default_rng(11)
    hardness, rows = rng.normal(0, 10, 200), {}
    for method, mean in zip("abcd", (42.2, 40.0, 40.0, 40.0), strict=True):
        suits = rng.normal(0, 7, 200)
        for seed in range(3):
            values = mean + hardness + suits + rng.normal(0, 5, 200) + 0.3 * rng.normal()
            rows[method, seed] = {f"d{index}": float(value) for index, value in enumerate(values)}
    verdict = decide(Scores(methods=tuple("abcd"), scores=rows))
    assert pair(verdict, "a", "c")[3] == "no difference shown"
    assert (verdict.best_set, verdict.methods[0].regret_bound) == (("a",), 0.0)
    assert verdict.sentences[0] == (
        "a is the best of these methods (43.1 points). No other method is better, but c may be equal: only the "
        "comparison with the best excludes a better score, and the wider intervals of all pairs include zero. Every "
        "further method is worse."
    )
    assert (
        "a and c: the interval of all pairs includes zero (+2.0 points, −0.1 to +4.1); the comparison with the best, "
        "which is narrower, shows that c is not better."
    ) in verdict.sentences
    assert not any("may be up to" in sentence for sentence in verdict.sentences)


def test_the_smallest_detectable_difference_is_stated_by_pair() -> None:
    """One erratic method far below must not speak for the two that score highest."""
    calm = made({"lora": 40.0, "full": 40.0}, noise=1.0)
    erratic = made({"soft_prompt": 20.0}, noise=12.0)
    verdict = decide(replace(calm, methods=(*calm.methods, "soft_prompt"), scores={**calm.scores, **erratic.scores}))
    low, high = (found(one.smallest_detectable or 0.0 for one in verdict.pairs) for found in (min, max))
    assert high > 3 * low
    [sentence] = [line for line in verdict.sentences if line.startswith("Smallest difference")]
    top = bound_text(pair_of(verdict, "lora", "full"))
    assert sentence.startswith(
        f"Smallest difference that is detected with 80 % power: {bound_text(low)} to {bound_text(high)} points, "
        f"depending on the pair; {top} for "
    )
    assert "With 3 seeds these figures are themselves rough estimates." in sentence


def pair_of(verdict: Verdict, first: str, second: str) -> float:
    """What the study can detect between two methods."""
    return next(one.smallest_detectable or 0.0 for one in verdict.pairs if {one.first, one.second} == {first, second})


def failing(methods: Mapping[str, float], lost: Mapping[tuple[str, int], float], **settings: Any) -> Scores:
    """Scores as `made` gives them; `lost` points are taken from whole trainings."""
    scores = made(methods, **settings)
    rows = {
        key: {name: (value or 0.0) - lost.get(key, 0.0) for name, value in row.items()}
        for key, row in scores.scores.items()
    }
    return replace(scores, scores=rows)


FIVE = {"zero_shot": 20.0, "lora": 40.0, "full": 40.5, "dora": 40.2, "soft_prompt": 40.0}


def test_failures_at_another_fraction_of_the_data_widen_the_intervals_of_the_method() -> None:
    """Its trainings on all the data agree by luck: three trainings in ten lose 4 points."""
    scores = failing(FIVE, {}, documents=600, seed_sd=0.3)
    calm = [failing(FIVE, {}, documents=600, seed_sd=0.3) for _ in range(3)]
    erratic = [failing(FIVE, {("soft_prompt", seed): 4.0}, documents=600, seed_sd=0.3) for seed in (0, 1, 0)]
    plain, same, wide = (decide(scores, smaller=other) for other in ((), calm, erratic))
    assert plain.seed_prior is None
    assert same.seed_prior is not None
    assert same.seed_prior.cells == 16
    assert (plain.trainings, same.trainings, wide.trainings) == (3, 12, 12)
    assert [one.method for one in wide.erratic] == ["soft_prompt"]
    for before, after in zip(same.pairs, wide.pairs, strict=True):
        ratio = (after.high - after.low) / (before.high - before.low)
        assert ratio > 1.5 if "soft_prompt" in (before.first, before.second) else ratio == pytest.approx(1, abs=0.15)
    [caution] = [line for line in wide.sentences if line.startswith("Caution: soft prompt differs far more")]
    assert caution.endswith("Its intervals account for the trainings at all fractions of the data.")
    assert not any("no training showed" in line for line in (*same.sentences, *wide.sentences))
    assert (
        "A method that fails in 3 of 10 trainings shows no failure in 3 trainings with a probability of 34 %. The "
        "intervals do not cover failures that no training showed."
    ) in plain.sentences


def test_a_failure_among_three_trainings_is_named() -> None:
    verdict = decide(failing(FIVE, {("full", 2): 9.0}, documents=600, seed_sd=0.1))
    [found] = verdict.erratic
    assert (found.method, found.seed_sd > 10 * found.others_sd) == ("full", True)
    [caution] = [line for line in verdict.sentences if line.startswith("Caution: Full fine-tuning differs far more")]
    assert caution.endswith("and 3 trainings hardly show how many do. Use more seeds.")


def test_one_training_has_no_spread() -> None:
    verdict = decide(made({"zero_shot": 20.0, "lora": 40.0, "full": 41.0}, seeds=1))
    assert (verdict.trainings, verdict.erratic) == (0, ())
    assert not any("fails in 3 of 10" in line for line in verdict.sentences)


def mirrored(verdict: Verdict) -> Verdict:
    """The same verdict about the same numbers with the other sign and direction."""
    turned = [
        one.model_copy(update={"mean": -one.mean, "seed_means": tuple(-mean for mean in one.seed_means)})
        for one in verdict.methods
    ]
    return verdict.model_copy(update={"methods": tuple(turned), "higher_is_better": False, "sentences": ()})


def test_less_is_better_decides_as_the_negated_scores_do() -> None:
    more = made({"zero_shot": 20.0, "lora": 40.0, "full": 40.5}, noise=1.0)
    less = replace(
        more,
        scores={
            key: {name: -value for name, value in row.items() if value is not None} for key, row in more.scores.items()
        },
        higher_is_better=False,
    )
    verdict = decide(less)
    assert verdict.model_copy(update={"sentences": ()}) == mirrored(decide(more))
    assert [one.method for one in verdict.ranked] == ["full", "lora", "zero_shot"]
    assert verdict.best == "full"
    assert "scores lowest" in verdict.sentences[0] or "is the best" in verdict.sentences[0]
    assert any("(less is better: " in sentence for sentence in verdict.sentences)


def test_a_margin_of_zero_is_not_named_as_a_size_that_matters() -> None:
    verdict = decide(made({"zero_shot": 20.0, "lora": 40.0}), margin=0.0)
    assert any(re.search(r"LoRA is better than Zero-shot \(.*\)\.$", sentence) for sentence in verdict.sentences)


def test_more_decimals_show_scores_on_a_small_scale() -> None:
    scores = made({"lora": 0.40, "full": 0.43}, noise=0.01, seed_sd=0.0)
    verdict = decide(replace(scores, decimals=3, scale=1.0), margin=0.001)
    assert re.search(r"\d\.\d{3}\b", verdict.sentences[0])
    assert max(one.regret_bound or 0 for one in verdict.methods) <= 1.0


@pytest.mark.parametrize(("documents", "seed_sd", "limited"), [(30, 0.05, True), (400, 2.0, False)])
def test_an_open_verdict_says_whether_seeds_or_documents_would_help(
    documents: int, seed_sd: float, limited: bool
) -> None:
    verdict = decide(made({"lora": 40.0, "full": 40.0}, documents=documents, noise=6.0, seed_sd=seed_sd))
    [found] = verdict.pairs
    assert found.narrower_by_seeds is not None
    assert found.narrower_by_documents is not None
    assert (found.narrower_by_seeds < found.narrower_by_documents) == limited
    [sentence] = [line for line in verdict.sentences if line.startswith("Twice as many seeds would narrow")]
    assert sentence.endswith("are the limit, and further seeds would hardly help.") == limited


def test_a_settled_verdict_and_one_of_a_single_seed_ask_for_nothing() -> None:
    for clear in (
        decide(made({"lora": 30.0, "full": 40.0})),
        decide(made({"lora": 40.0, "full": 40.0}, noise=9.0, seeds=1)),
        decide(made({"lora": 40.0, "full": 40.0}), margin=30.0),
    ):
        assert not any("Twice as many seeds" in line for line in clear.sentences)
