"""The verdict of a study that stopped: intervals of the last look at a pair, sentences, other margins and metrics."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from support.known_scores import scores_of
from support.looked_study import SEEDS, looked_study
from support.verdict_study import load
from tuneoff.results.summary import Verdict
from tuneoff.verdict.decide import decide
from tuneoff.verdict.decide_by_looks import decide_by_looks
from tuneoff.verdict.judge import judge_study
from tuneoff.verdict.looks import StudyLooks, TakenLook, looks_of, next_look
from tuneoff.verdict.scores import Scores, load_scores

LOOKS = (3, 4, 5, 6)


def verdict_of(folder: Path, **choices: float) -> Verdict:
    [judged] = judge_study(load(folder), **choices)  # type: ignore[arg-type]
    return judged.verdict


def test_a_pair_has_the_interval_of_the_last_look_at_both(tmp_path: Path) -> None:
    folder = looked_study(tmp_path / "study")
    verdict = verdict_of(folder)
    [scores] = load_scores(load(folder))
    taken = looks_of(load(folder), scores).taken
    assert [one.seeds for one in taken] == [3, 4, 5, 6]
    for first, second, number in (("lora", "full", 3), ("soft_prompt", "lora", 0), ("zero_shot", "full", 0)):
        pair = next(one for one in verdict.pairs if {one.first, one.second} == {first, second})
        found = taken[number].found
        assert found is not None
        row, column = (taken[number].table.methods.index(name) for name in (pair.first, pair.second))
        assert pair.high == pytest.approx(found.upper[row, column])
        assert pair.low == pytest.approx(-found.upper[column, row])
        assert pair.p_better is None
    assert len(verdict.pairs) == 6
    assert {one.method: len(one.seed_means) for one in verdict.methods} == SEEDS
    # They are wider than intervals of a single look at the same scores.
    single = decide(
        Scores(("lora", "full"), {key: row for key, row in scores.scores.items() if key[0] in ("lora", "full")})
    )
    pair = next(one for one in verdict.pairs if {one.first, one.second} == {"lora", "full"})
    assert pair.high - pair.low > single.pairs[0].high - single.pairs[0].low


def test_the_verdict_says_at_which_look_what_was_decided_and_what_it_saved(tmp_path: Path) -> None:
    verdict = verdict_of(looked_study(tmp_path / "study"))
    assert verdict.looks is not None
    assert verdict.looks.sentences == (
        "Look after 3 seeds: Zero-shot and Soft prompt are shown to lose more than 0.5 points against another method "
        "and get no further seeds.",
        "Look after 4 seeds: no method is shown to lose more than the margin.",
        "Look after 5 seeds: no method is shown to lose more than the margin.",
        "Look after 6 seeds: no method is shown to lose more than the margin. It was the last look.",
        "16 of 19 final runs were carried out (−16 %); the others would have taken about 33 s.",
        "Looks after 3, 4, 5 and 6 seeds were fixed beforehand, and the intervals of all of them hold at once with "
        "95 % confidence; a method that was stopped is compared by the last look that it took part in.",
    )
    assert set(verdict.looks.sentences) <= set(verdict.sentences)
    assert not any("Planned runs are missing" in sentence for sentence in verdict.sentences)
    assert any("at most 6 training seeds" in sentence for sentence in verdict.sentences)
    assert verdict.best == verdict.ranked[0].method
    assert set(verdict.best_set) == {"lora", "full"}


def test_before_the_first_look_nothing_is_compared(tmp_path: Path) -> None:
    verdict = verdict_of(looked_study(tmp_path / "study", {"zero_shot": 1, "soft_prompt": 3, "lora": 3, "full": 2}))
    assert verdict.pairs == ()
    assert verdict.sentences[0].startswith("Too early to tell: this study is judged after 3 seeds first")
    assert verdict.recommendations == ()


def test_runs_after_the_last_look_wait_for_the_next(tmp_path: Path) -> None:
    whole = verdict_of(looked_study(tmp_path / "whole", {**SEEDS, "lora": 4, "full": 4}))
    verdict = verdict_of(looked_study(tmp_path / "study", {**SEEDS, "lora": 5, "full": 4}))
    assert verdict.pairs == whole.pairs
    assert verdict.methods == whole.methods
    assert verdict.looks is not None
    assert "The look after 5 seeds is to come: continue with the same command." in verdict.looks.sentences
    assert not any("carried out" in sentence for sentence in verdict.looks.sentences)


def test_looks_that_a_time_limit_left_out_are_named(tmp_path: Path) -> None:
    folder = looked_study(tmp_path / "study", {**SEEDS, "lora": 4, "full": 4}, looks=LOOKS, seeds=4)
    verdict = verdict_of(folder)
    assert verdict.looks is not None
    assert verdict.looks.left_out == (5, 6)
    assert "The looks after 5 and 6 seeds were left out: the time limit leaves no time for them." in verdict.sentences
    assert any(sentence.startswith("12 of 19 final runs were carried out (−37 %)") for sentence in verdict.sentences)


def test_another_margin_judges_the_looks_that_were_taken(tmp_path: Path) -> None:
    folder = looked_study(tmp_path / "study")
    usual, wide = verdict_of(folder), verdict_of(folder, margin=8.0)
    assert [(one.low, one.high) for one in wide.pairs] == [(one.low, one.high) for one in usual.pairs]
    assert wide.looks == usual.looks
    assert {one.method for one in wide.methods if one.not_worse} == {"lora", "full"}
    assert "exploratory" in wide.sentences[-1]


def test_claims_are_judged_by_intervals_that_hold_at_all_looks(tmp_path: Path) -> None:
    claim = {"text": "lora wins", "kind": "better", "methods": ["lora", "soft_prompt"]}
    [judged] = judge_study(load(looked_study(tmp_path / "study", claims=[claim])))
    assert judged.claims[0].outcome == "supported"
    assert "one-sided p" not in judged.claims[0].why


def test_methods_that_a_failed_training_left_alone_keep_their_earlier_look() -> None:
    means = {"zero_shot": 30.0, "soft_prompt": 20.0, "lora": 40.0, "full": 40.2}
    documents = [f"d{number:02d}" for number in range(40)]
    rows = {
        (name, seed): dict(zip(documents, scores_of(name, seed, mean, 40, seed_sd=1.0), strict=True))
        for name, mean in means.items()
        for seed in range(1 if name == "zero_shot" else 6)
    }
    titles = {"full": "Full fine-tuning", "soft_prompt": "Soft prompt"}
    found = Scores(tuple(means), rows, deterministic=frozenset({"zero_shot"}), titles=titles)
    ended = dict.fromkeys(found.scores, True) | {("full", 3): False}
    taken = follow(found, ended)
    assert [one.end for one in taken] == [None, "settled"]
    verdict = decide_by_looks(found, StudyLooks(LOOKS, 0.5, taken, 6, 14, 19, None), 0.5)
    assert {one.method for one in verdict.methods} == set(found.methods)
    assert len(verdict.pairs) == 6
    assert verdict.left_out == ()
    assert verdict.seeds == (0, 1, 2)
    assert any("Full fine-tuning takes part no longer, because a training failed" in one for one in verdict.sentences)
    # One that failed before the first look is named by it, and is not said to have no scores.
    taken = follow(found, dict.fromkeys(found.scores, True) | {("soft_prompt", 1): False})
    verdict = decide_by_looks(found, StudyLooks(LOOKS, 0.5, taken, 6, 14, 19, None), 0.5)
    assert "soft_prompt" not in {one.method for one in verdict.methods}
    assert verdict.left_out == ()


def follow(scores: Scores, ended: Mapping[tuple[str, int], bool] | None = None) -> tuple[TakenLook, ...]:
    taken: list[TakenLook] = []
    ended = ended or dict.fromkeys(scores.scores, True)
    while one := next_look(scores.methods, scores.deterministic, ended, lambda: scores, LOOKS, 0.5, taken):
        taken.append(one)
    return tuple(taken)


def test_intervals_of_all_looks_hold_in_simulated_studies() -> None:
    """The truth is inside every interval at the stop; judged by the 99.9 % binomial band."""
    studies, documents, names = 40, 24, ("a", "b", "c")
    truth = np.array([0.0, 0.0, 3.0])
    rng = np.random.default_rng(11)
    covered = looks_taken = 0
    for _ in range(studies):
        table = (
            truth[:, None, None]
            + rng.normal(40, 5, documents)
            + rng.normal(0, 1, (3, 6, 1))
            + rng.normal(0, 3, (3, 1, documents))
            + rng.normal(0, 2, (3, 6, documents))
        )
        rows = {
            (name, seed): {f"d{n:02d}": float(value) for n, value in enumerate(table[index, seed])}
            for index, name in enumerate(names)
            for seed in range(6)
        }
        scores = Scores(names, rows)
        taken = follow(scores)
        verdict = decide_by_looks(scores, StudyLooks(LOOKS, 0.5, taken, 6, 18, 18, None), 0.5)
        looks_taken += len(taken)
        true = [truth[names.index(pair.first)] - truth[names.index(pair.second)] for pair in verdict.pairs]
        covered += all(pair.low <= one <= pair.high for pair, one in zip(verdict.pairs, true, strict=True))
    assert covered >= stats.binom.ppf(0.0005, studies, 0.95)
    assert looks_taken > studies
