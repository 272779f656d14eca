"""The verdict in sentences: the answer first, then what limits it, then what to use; bounds are rounded outwards."""

from typing import Any

from tuneoff.results.summary import MethodResult, PairResult, Recommendation, Verdict
from tuneoff.verdict.sentences import verdict_sentences

TITLES = {"full": "Full fine-tuning", "lora": "LoRA", "zero_shot": "Zero-shot"}


def result(method: str, mean: float, *, best: bool = True, regret_bound: float = 0.0) -> MethodResult:
    return MethodResult(
        method=method,
        title=TITLES[method],
        mean=mean,
        seed_means=(mean,),
        seed_sd=None,
        may_be_best=best,
        regret_bound=regret_bound,
        not_worse=regret_bound <= 0.5,
    )


def pair(first: str, second: str, difference: float, low: float, high: float, **other: Any) -> PairResult:
    decision = "better" if low > 0 else "worse" if high < 0 else "no difference shown"
    given = {"decision": decision, "size": "not settled", **other}
    return PairResult(
        first=first,
        second=second,
        difference=difference,
        low=low,
        high=high,
        standard_error=0.5,
        df=20.0,
        smallest_detectable=1.0,
        **given,
    )


def verdict(methods: tuple[MethodResult, ...], pairs: tuple[PairResult, ...], **other: Any) -> Verdict:
    given = {
        "metric": "rouge1",
        "level": 0.95,
        "margin": 0.5,
        "block": None,
        "methods": methods,
        "pairs": pairs,
        "best": max(methods, key=lambda one: one.mean).method,
        "best_set": tuple(one.method for one in methods if one.may_be_best),
        "recommendations": (),
        "smallest_detectable": 3.01,
        "smallest_margin": 2.0,
        "seeds": (0, 1, 2),
        "documents": 618,
        "groups": 618,
        "covers_seeds": True,
        "sentences": (),
        "notes": (),
    }
    return Verdict.model_validate({**given, **other})


OPEN = (result("lora", 42.1, regret_bound=1.57), result("full", 42.7, regret_bound=0.31))
OPEN_PAIR = pair("lora", "full", -0.59, -1.91, 0.72)
CLEAR = (result("lora", 42.0), result("zero_shot", 30.0, best=False, regret_bound=13.0))
CLEAR_PAIR = pair("lora", "zero_shot", 12.0, 11.04, 12.96, size="matters")


def recommendation(axis: str, method: str | None, *, settled: bool = True, **other: Any) -> Recommendation:
    return Recommendation(axis=axis, title=axis, unit="s", method=method, cost=1.0, settled=settled, **other)


def test_without_a_winner_the_lead_is_named_with_its_interval() -> None:
    [answer, *_] = verdict_sentences(verdict(OPEN, (OPEN_PAIR,)))
    assert answer == (
        "No single winner: Full fine-tuning scores highest (42.7), but its lead over LoRA (+0.6 points, −0.8 to +2.0) "
        "is within the noise."
    )


def test_leads_over_further_methods_are_named_without_numbers() -> None:
    zero_shot = result("zero_shot", 41.0, regret_bound=3.0)
    pairs = (OPEN_PAIR, pair("full", "zero_shot", 1.7, -0.2, 3.4), pair("lora", "zero_shot", 1.1, -0.5, 2.5))
    [answer, *_] = verdict_sentences(verdict((zero_shot, *OPEN), pairs))
    assert answer.endswith(
        "over LoRA (+0.6 points, −0.8 to +2.0) is within the noise; so are its leads over Zero-shot."
    )


def test_a_single_best_method_is_the_answer() -> None:
    [answer, *_] = verdict_sentences(verdict(CLEAR, (CLEAR_PAIR,)))
    assert answer == "LoRA is the best of these methods (42.0 points). Every other method is worse."
    [answer, second, *_] = verdict_sentences(verdict(CLEAR, (CLEAR_PAIR,), left_out=("Soft prompt",)))
    assert answer.startswith("LoRA is the best of the 2 methods that have runs")
    assert second == "Not judged: Soft prompt has no finished, scored run."


def test_a_tie_is_the_answer() -> None:
    tie = pair("lora", "full", 0.1, -0.3, 0.4, decision="tie", size="too small to matter")
    [answer, *_] = verdict_sentences(verdict(OPEN, (tie,)))
    assert answer == "It is a tie: Full fine-tuning and LoRA are within 0.5 points of each other (42.7 points)."


def test_the_answer_precedes_its_limits_and_what_to_use() -> None:
    found = verdict_sentences(
        verdict(
            OPEN,
            (OPEN_PAIR,),
            covers_seeds=False,
            seeds=(0,),
            recommendations=(recommendation("training time", "full"), recommendation("peak memory", "full")),
            notes=("Run lora-s0 is excluded: failed.",),
        )
    )
    starts = (
        "No single winner",
        "Only one training seed",
        "Smallest difference that is detected with 80 % power: 1.0 points. Smallest margin that can be settled for "
        "every method that equals the best: 2.0 points.",
        "Cheapest in training time and peak memory of all methods within 0.5 points of the best: Full fine-tuning.",
        "Judged by ROUGE-1: 2 methods on the same 618 test documents, 1 training seed. The intervals hold for all",
        "Full fine-tuning and LoRA: no difference shown (+0.6 points, −0.8 to +2.0). Up to 2.0 points may be hidden.",
        "Full fine-tuning is at most 0.5 points below the best.",
        "LoRA may be up to 1.6 points below the best (regret bound).",
        "Run lora-s0 is excluded",
    )
    assert len(found) == len(starts)
    for sentence, start in zip(found, starts, strict=True):
        assert sentence.startswith(start)


def test_a_recommendation_that_is_not_settled_has_its_regret_bound() -> None:
    chosen = recommendation("training time", "lora", settled=False, without_cost=("Full fine-tuning",))
    none = recommendation("energy", None, reason="no counter (LoRA)")
    found = verdict_sentences(verdict(OPEN, (OPEN_PAIR,), recommendations=(chosen, none)))
    assert (
        "Cheapest in training time of all methods that may be the best: LoRA (not settled: regret bound 1.6 points)."
        in found
    )
    assert "Not compared in training time, because the cost is unknown: Full fine-tuning." in found
    assert "No recommendation for energy: no counter (LoRA)." in found


def test_equally_cheap_methods_are_named_together() -> None:
    chosen = recommendation("labelled examples", "lora", equally_cheap=("full",))
    found = verdict_sentences(verdict(OPEN, (OPEN_PAIR,), recommendations=(chosen,)))
    assert any(sentence.endswith("of the best: LoRA and Full fine-tuning.") for sentence in found)


def test_a_difference_is_compared_with_the_margin() -> None:
    def sentence(size: str) -> str:
        found = verdict_sentences(verdict(CLEAR, (CLEAR_PAIR.model_copy(update={"size": size}),)))
        return next(line for line in found if line.startswith("LoRA is better than Zero-shot"))

    better = "LoRA is better than Zero-shot (+12.0 points, +11.0 to +13.0)"
    assert sentence("matters") == f"{better}, by more than the margin of 0.5 points."
    assert sentence("too small to matter") == f"{better}, but by less than the margin of 0.5 points."
    assert sentence("not settled") == f"{better}; whether by more than the margin of 0.5 points is not settled."


def test_methods_with_equal_scores_are_a_tie_without_a_limit() -> None:
    same = pair("lora", "full", 0.0, 0.0, 0.0, decision="tie", size="too small to matter")
    same = same.model_copy(update={"standard_error": 0.0})
    found = verdict_sentences(verdict(OPEN, (same,)))
    assert "LoRA and Full fine-tuning are a tie: they score the same on every document." in found
    assert not any("80 % power" in sentence for sentence in found)


def test_examples_of_shared_documents_are_counted_as_such() -> None:
    found = verdict_sentences(verdict(CLEAR, (CLEAR_PAIR,), groups=200, block="org/model", margin=1.0))
    assert any("with org/model: 2 methods on the same 618 test examples of 200 documents" in line for line in found)
    assert any("the margin of 1 point." in line for line in found)


def test_of_two_methods_one_may_be_the_best_alone_and_the_other_equal() -> None:
    methods = (result("lora", 42.0), result("zero_shot", 41.0, best=False, regret_bound=2.1))
    [answer, *others] = verdict_sentences(verdict(methods, (pair("lora", "zero_shot", 1.0, -0.1, 2.1),)))
    assert answer == (
        "LoRA is the best of these methods (42.0 points). No other method is better, but Zero-shot may be "
        "equal: only the comparison with the best excludes a better score, and the wider intervals of all pairs "
        "include zero."
    )
    assert any(line.endswith("which is narrower, shows that Zero-shot is not better.") for line in others)
