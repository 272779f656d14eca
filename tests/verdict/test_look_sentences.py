"""What the sentences on looks say of each end, and of looks that did not take place."""

import pytest

from tuneoff.results.summary import EndOfLooks, LookResult, LooksResult, MethodResult
from tuneoff.verdict.look_sentences import decided_at, look_sentences, too_early_sentence

TITLES = {"a": "A", "b": "B"}


def taken(seeds: int, end: EndOfLooks | None = None, methods: tuple[str, ...] = ("a", "b")) -> LookResult:
    return LookResult(seeds=seeds, level=0.97, information=0.8, methods=methods, stopped=(), end=end)


def sentences(*looks: LookResult, left_out: tuple[int, ...] = (), saved: float | None = 3600.0) -> tuple[str, ...]:
    methods = tuple(
        MethodResult(
            method=name, title=title, mean=1.0, seed_means=(1.0,), seed_sd=None, may_be_best=True, regret_bound=1.0,
            not_worse=False,
        )
        for name, title in TITLES.items()
    )  # fmt: skip
    result = LooksResult(
        planned=(3, 4, 6), margin=0.5, taken=looks, left_out=left_out, runs=9, all_runs=12, saved_seconds=saved
    )
    return look_sentences(result, methods, 31, 0.95)


def test_who_was_stopped_and_who_failed() -> None:
    assert decided_at(["a"], [], TITLES, 0.5) == (
        "A is shown to lose more than 0.5 points against another method and gets no further seeds"
    )
    both = decided_at(["a"], ["b"], TITLES, 1.0)
    assert both.endswith("; B takes part no longer, because a training failed")
    assert decided_at(["a", "b"], [], TITLES, 1.0).startswith("A and B are shown to lose more than 1 point against")
    assert decided_at([], [], TITLES, 0.5) == "no method is shown to lose more than the margin"


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("settled", "All is settled, so the study ends."),
        ("documents", "narrow the intervals by at most 5 %: the 31 test documents are the limit, so the study ends."),
        ("seeds", "It was the last look."),
        ("nothing", "Look after 3 seeds: no difference can be reported, so the study ends."),
    ],
)
def test_why_no_look_follows(end: EndOfLooks, words: str) -> None:
    first, *others = sentences(taken(3, end))
    assert words in first
    assert others[0] == "9 of 12 final runs were carried out (−25 %); the others would have taken about 1 h 0 min."
    assert not any("to come" in sentence for sentence in others)


def test_a_look_that_is_to_come_saves_nothing_yet() -> None:
    found = sentences(taken(3))
    assert "The look after 4 seeds is to come: continue with the same command." in found
    assert not any("carried out" in sentence for sentence in found)


def test_looks_that_were_left_out_and_a_duration_that_is_unknown() -> None:
    found = sentences(taken(3), left_out=(4, 6), saved=None)
    assert "The looks after 4 and 6 seeds were left out: the time limit leaves no time for them." in found
    assert "9 of 12 final runs were carried out (−25 %)." in found
    assert any("The look after 6 seeds was left out" in each for each in sentences(taken(3), taken(4), left_out=(6,)))


def test_a_method_that_was_stopped_is_compared_by_its_last_look() -> None:
    assert sentences(taken(3), taken(4, "settled", ("a",)))[-1].endswith("by the last look that it took part in.")
    assert "stopped" not in sentences(taken(3), taken(4, "settled"))[-1]
    assert "after 3 seeds first" in too_early_sentence((3, 4))
