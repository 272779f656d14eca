"""Outputs from which nothing can be learned, and trainings that taught nothing."""

from collections.abc import Mapping

import pytest

from support.planned import HASHES, curve_of, record_of, study_of
from tuneoff.results.run_outputs import RunOutputs
from tuneoff.results.run_record import Curve, Prediction, Record, RunDetails
from tuneoff.study.planner import plan
from tuneoff.verdict.outputs import (
    identical_methods,
    is_constant,
    is_empty,
    nothing_learned,
    says_nothing,
    useless_method,
)


def rows(*texts: str, empty: float | None = 0.0) -> RunOutputs:
    return RunOutputs.of(Prediction(id=f"d{n}", text=text, scores={"empty": empty}) for n, text in enumerate(texts))


ONE, OTHER, NONE = rows("x", "y").fingerprint(), rows("x", "z").fingerprint(), rows().fingerprint()


def test_methods_with_equal_texts_for_every_seed_are_one_group() -> None:
    runs = {("lora", 0): ONE, ("lora", 1): OTHER, ("full", 0): ONE, ("full", 1): OTHER, ("soft", 0): OTHER}
    assert identical_methods(runs) == (("lora", "full"),)
    assert identical_methods({("lora", 0): ONE, ("full", 0): OTHER}) == ()
    assert identical_methods({("lora", 0): NONE, ("full", 0): NONE}) == ()


def test_a_single_run_is_compared_with_every_seed() -> None:
    assert identical_methods({("zero_shot", 0): ONE, ("lora", 0): ONE, ("lora", 1): ONE}) == (("zero_shot", "lora"),)
    assert identical_methods({("zero_shot", 0): ONE, ("lora", 0): ONE, ("lora", 1): OTHER}) == ()


def test_empty_and_constant_outputs() -> None:
    assert is_empty(rows("", " ", empty=1.0))
    assert not is_empty(rows("", "x"))
    assert not is_empty(rows())
    assert is_constant(rows("x", "x", "x"))
    assert not is_constant(rows("x", "x"))  # two equal outputs may be chance
    assert not is_constant(rows("x", "x", "y"))
    assert not is_constant(rows("", "", ""))  # texts that were not kept


def test_a_study_measures_nothing_if_no_method_says_anything() -> None:
    constant, empty, sound = rows("x", "x", "x"), rows("", "", "", empty=1.0), rows("x", "y", "z")
    assert "every output of every method is empty" in str(says_nothing([empty, empty]))
    assert "one and the same text for all documents" in str(says_nothing([constant, constant]))
    assert says_nothing([constant, sound]) is None
    assert says_nothing([empty, sound, rows()]) is None
    assert says_nothing([]) is None


def test_a_method_is_useless_if_no_run_of_it_depends_on_the_document() -> None:
    constant, empty, sound = rows("x", "x", "x"), rows("", "", "", empty=1.0), rows("x", "y", "z")
    said = "LoRA has the highest mean, but writes one and the same text for every document."
    assert str(useless_method("LoRA", [constant, empty])).startswith(said)
    assert "but writes nothing for every document" in str(useless_method("LoRA", [empty, empty]))
    assert useless_method("LoRA", [constant, sound]) is None
    assert useless_method("LoRA", []) is None


def records(curves: Mapping[str, Curve], *, moved: float | None = None) -> list[Record]:
    runs = plan(study_of(methods=tuple(curves)), HASHES, {}).runs
    return [
        record_of(run).model_copy(
            update={"curve": curves[run.spec.method.name], "details": RunDetails(moved_share=moved)}
        )
        for run in runs
    ]


def test_nothing_was_learned_if_no_validation_loss_fell() -> None:
    zero_shot = curve_of({0: 3.0})
    said = str(nothing_learned(records({"zero_shot": zero_shot, "lora": curve_of({4: 3.0}, steps=4)})))
    assert said.startswith("No trained method learned anything. No validation loss fell below that of the untrained")
    assert "(3.000 nats per token)" in said
    fell = {"zero_shot": zero_shot, "lora": curve_of({4: 3.1}, steps=4), "full": curve_of({4: 2.9}, steps=4)}
    assert nothing_learned(records(fell)) is None
    assert nothing_learned(records({"zero_shot": zero_shot})) is None


@pytest.mark.parametrize(("losses", "learned"), [({0: 3.0, 4: 3.0}, False), ({0: 3.0, 4: 2.5}, True), ({4: 3.0}, True)])
def test_without_zero_shot_the_loss_before_training_counts(losses: dict[int, float], learned: bool) -> None:
    assert (nothing_learned(records({"lora": curve_of(losses, steps=4)})) is None) is learned


def test_weights_that_did_not_move_learned_nothing() -> None:
    still = records({"lora": curve_of({4: 1.0}, steps=4)}, moved=0.0)
    assert nothing_learned(still) is not None
