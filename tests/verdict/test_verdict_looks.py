"""Which methods a look compares, when it is taken, and what follows from it."""

import numpy as np
import pytest

from support.known_scores import scores_of
from tuneoff.stats.sequential import look
from tuneoff.verdict.looks import Ended, TakenLook, next_look, replayed, takes_part
from tuneoff.verdict.scores import Scores

DOCUMENTS = 40
LOOKS = (3, 4, 5, 6)
METHODS = ("zero_shot", "soft_prompt", "lora", "full")
MEANS = {"zero_shot": 30.0, "soft_prompt": 20.0, "lora": 40.0, "full": 40.2}


def scores(means: dict[str, float] = MEANS, seeds: int = 6, seed_sd: float = 1.0, documents: int = DOCUMENTS) -> Scores:
    names = [f"d{number:02d}" for number in range(documents)]
    found = {
        (method, seed): dict(zip(names, scores_of(method, seed, mean, documents, seed_sd=seed_sd), strict=True))
        for method, mean in means.items()
        for seed in range(1 if method == "zero_shot" else seeds)
    }
    return Scores(tuple(means), found, deterministic=frozenset({"zero_shot"}))


def all_ended(seeds: int, *failed: tuple[str, int]) -> Ended:
    runs = {(method, seed): True for method in METHODS for seed in range(1 if method == "zero_shot" else seeds)}
    return runs | dict.fromkeys(failed, False)


def follow(found: Scores, ended: Ended, margin: float = 0.5) -> list[TakenLook]:
    taken: list[TakenLook] = []
    while one := next_look(METHODS, {"zero_shot"}, ended, lambda: found, LOOKS, margin, taken):
        taken.append(one)
    return taken


def test_a_look_waits_for_every_run_that_it_needs_and_reads_no_score_before() -> None:
    without = {key: done for key, done in all_ended(3).items() if key != ("lora", 2)}

    def read() -> Scores:
        raise AssertionError("scores are read between two looks")

    assert next_look(METHODS, {"zero_shot"}, without, read, LOOKS, 0.5, []) is None
    first = next_look(METHODS, {"zero_shot"}, all_ended(3), scores, LOOKS, 0.5, [])
    assert first is not None
    # Seeds of a method that was stopped are not needed for the next look.
    ended = {**all_ended(3), ("lora", 3): True}
    assert next_look(METHODS, {"zero_shot"}, ended, read, LOOKS, 0.5, [first]) is None
    assert next_look(METHODS, {"zero_shot"}, {**ended, ("full", 3): True}, scores, LOOKS, 0.5, [first]) is not None


def test_losers_are_stopped_and_the_others_go_on_to_the_last_look() -> None:
    taken = follow(scores(), all_ended(6))
    assert [one.seeds for one in taken] == [3, 4, 5, 6]
    assert taken[0].stopped == ("zero_shot", "soft_prompt")
    assert [one.table.methods for one in taken[1:]] == [("lora", "full")] * 3
    assert [one.end for one in taken] == [None, None, None, "seeds"]
    assert [one.table.seeds for one in taken] == [tuple(range(n)) for n in LOOKS]
    # Later scores change nothing about an earlier look.
    early = follow(scores(seeds=4), all_ended(4))
    assert [one.stopped for one in early] == [one.stopped for one in taken[:2]]
    for one, other in zip(early, taken, strict=False):
        assert one.found is not None
        assert other.found is not None
        assert np.array_equal(one.found.upper, other.found.upper)


def test_levels_are_those_of_the_statistics() -> None:
    found = scores()
    used: list[float] = []
    for one in follow(found, all_ended(6)):
        assert one.found is not None
        by_hand = look(one.table.values, one.table.varies, LOOKS, used, 0.5)
        assert one.found.level == by_hand.level
        used.append(by_hand.level)
    assert min(used) > 0.95


@pytest.mark.parametrize(
    ("settings", "end"),
    [
        ({"means": {**MEANS, "full": 50.0}}, "settled"),
        ({"seed_sd": 0.01}, "documents"),
        ({"documents": 9}, "nothing"),
    ],
)
def test_why_no_look_follows(settings: dict[str, object], end: str) -> None:
    [one] = follow(scores(**settings), all_ended(6))  # type: ignore[arg-type]
    assert one.end == end


def test_a_method_with_a_failed_or_unscored_training_takes_part_no_longer() -> None:
    taken = follow(scores(), all_ended(6, ("full", 3)))
    assert taken[0].failed == ()
    assert taken[1].failed == ("full",)
    assert taken[1].end == "settled"  # LoRA is left alone
    found = scores()
    empty = {**found.scores, ("full", 1): dict.fromkeys(found.scores["full", 1])}
    taken = follow(Scores(found.methods, empty, deterministic=found.deterministic), all_ended(6))
    assert taken[0].failed == ("full",)
    assert "full" not in taken[0].table.methods


def test_a_method_whose_seeds_change_nothing_needs_no_more_of_them() -> None:
    found = scores()
    same = {key: found.scores["lora", 0] if key[0] == "lora" else row for key, row in found.scores.items()}
    ended = {key: True for key in all_ended(6) if key[0] != "lora" or key[1] < 3}
    taken = follow(Scores(found.methods, same, deterministic=found.deterministic), ended)
    assert "lora" not in taken[0].trained_further
    assert "lora" in taken[1].table.methods


def test_another_margin_is_applied_to_the_looks_that_were_taken() -> None:
    taken = follow(scores(), all_ended(6))
    again = replayed(taken, scores(), LOOKS, 30.0)
    assert [(one.seeds, one.stopped, one.end) for one in again] == [(one.seeds, one.stopped, one.end) for one in taken]
    assert [one.table.methods for one in again] == [one.table.methods for one in taken]


def test_a_row_of_a_method_without_seeds_takes_part_with_one_run() -> None:
    _, once, _ = takes_part(("zero_shot@brief", "lora@r=4", "few_shot@shots=4"), (), [])
    assert once == {"zero_shot@brief"}
