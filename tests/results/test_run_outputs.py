import tracemalloc

import pytest

from tuneoff.results.run_outputs import RunOutputs
from tuneoff.results.run_record import Prediction


def row(key: str, text: str, rouge: float | None = 1.0, **more: float) -> Prediction:
    return Prediction(id=key, text=text, scores={"rouge1": rouge, **more}, tokens=3)


def test_scores_come_back_by_document() -> None:
    outputs = RunOutputs.of([row("a", "x", 2.5), row("b", "y", None, novelty=0.5)])
    assert outputs.scores("rouge1") == {"a": 2.5, "b": None}
    assert outputs.scores("novelty") == {"a": None, "b": 0.5}
    assert outputs.scores("unknown") == {"a": None, "b": None}
    assert outputs.known("rouge1") == [2.5]
    assert outputs.known("unknown") == []
    assert len(outputs) == 2
    assert len(RunOutputs.of([])) == 0


def test_outputs_are_compared_by_their_texts() -> None:
    one = RunOutputs.of([row("a", "x", 1.0), row("b", "y", 1.0)])
    other_scores, other_order = RunOutputs.of([row("a", "x", 9.0), row("b", "y", 9.0)]), [row("b", "y"), row("a", "x")]
    for same in (other_scores, RunOutputs.of(other_order)):
        assert one.repeats(same)
        assert one.fingerprint() == same.fingerprint()
    for different in ([row("a", "x"), row("b", "z")], [row("a", "x"), row("c", "y")], [row("a", "x")]):
        assert not one.repeats(RunOutputs.of(different))
        assert one.fingerprint() != RunOutputs.of(different).fingerprint()


def test_texts_that_were_not_kept_are_compared_by_tokens_and_scores() -> None:
    one, other = (RunOutputs.of([row("a", "", value)]) for value in (1.0, 2.0))
    assert one.repeats(one)
    assert not one.repeats(other)
    assert not one.has_text.any()


@pytest.mark.parametrize("words", [10, 1000])
def test_what_is_held_does_not_grow_with_the_texts(words: int) -> None:
    metrics = {f"metric{number}": 1.0 for number in range(15)}
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        held = RunOutputs.of(row(str(number), f"{number} word " * words, **metrics) for number in range(500))
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(held) == 500
    assert used < 500 * 300


def test_outputs_of_several_folds_are_those_of_one_run() -> None:
    first, second = RunOutputs.of([row("a", "x", 1.0)]), RunOutputs.of([row("b", "y", 2.0, novelty=0.5)])
    both = RunOutputs.joined([first, second])
    assert both.scores("rouge1") == {"a": 1.0, "b": 2.0}
    assert both.scores("novelty") == {"a": None, "b": 0.5}
    whole = RunOutputs.of([row("a", "x", 1.0), row("b", "y", 2.0)])
    assert both.fingerprint() == whole.fingerprint()
    assert both.has_text.all()
    assert RunOutputs.joined([first]) is first
