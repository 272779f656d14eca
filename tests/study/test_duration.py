"""The estimated duration of a study, by hand."""

import pytest

from tuneoff.results.study_state import Speed
from tuneoff.spec import DataSpec, ModelSpec, StudySpec, TrainSpec
from tuneoff.study.duration import DataSizes, Speeds, estimate, steps_of

METHODS = ("zero_shot", "few_shot", "soft_prompt", "lora", "full")
SIZES = DataSizes(
    train_examples=800, validation_examples=150, validation_documents=150, test_examples=300, test_documents=300
)
STUDY = StudySpec(
    models=(ModelSpec(name="tiny"),),
    methods=METHODS,
    seeds=3,
    data=DataSpec(source="starter"),
    train=TrainSpec(epochs=3),
)
SPEEDS: Speeds = {
    ("tiny", name): Speed(start=2, step=1.0 * (index + 1), check=0.1, write=0.5) for index, name in enumerate(METHODS)
}


def test_the_estimate_counts_every_run() -> None:
    """By hand: one method, one fraction, no trials, two seeds."""
    study = STUDY.model_copy(
        update={"methods": ("lora",), "trials": 0, "fractions": (1.0,), "seeds": 2, "train": TrainSpec(epochs=1)}
    )
    # 100 steps of 4 s, 150 validation examples once, 300 test examples
    expected = 2 * (2 + 100 * 4 + 150 * 0.1 + 300 * 0.5)
    assert estimate(study, SIZES, SPEEDS) == pytest.approx(expected)
    # Two at a time, and then the timing run: 30 steps, 32 texts read and written. One seed waits for the one before.
    timing = 2 + 30 * 4 + 32 * (0.1 + 0.5)
    assert estimate(study, SIZES, SPEEDS, processes=2) == pytest.approx(expected + timing)


def test_concurrent_runs_wait_for_the_longest_of_their_seed() -> None:
    """By hand: five methods whose runs take 2 + checks + texts + 0, 0, 300, 400 and 500 s of steps."""
    study = STUDY.model_copy(update={"trials": 0, "fractions": (1.0,), "train": TrainSpec(epochs=1)})
    runs = [2 + steps + 150 * 0.1 + 300 * 0.5 for steps in (0, 0, 300, 400, 500)]
    timing = sum(2 + 32 * (0.1 + 0.5) + 30 * rate for rate in (0, 0, 3, 4, 5))
    eight, two = (estimate(study, SIZES, SPEEDS, processes=many) - timing for many in (8, 2))
    seeded = runs[1:]  # zero-shot has one run
    assert eight == pytest.approx(3 * max(runs))
    assert two == pytest.approx(sum(runs) / 2 + 2 * sum(seeded) / 2)


def test_trials_are_estimated_as_if_none_was_pruned() -> None:
    """By hand: two methods, one fraction, two trials and a refinement trial each, 100 steps, rungs at 25 and 50."""
    update = {
        "methods": ("soft_prompt", "lora"),
        "trials": 2,
        "fractions": (1.0,),
        "seeds": 1,
        "train": TrainSpec(epochs=1),
    }
    study = STUDY.model_copy(update=update)
    halved = study.model_copy(update={"halving": True})
    checks = 2 * 3 * 2 * 150 * 0.1
    assert estimate(halved, SIZES, SPEEDS) == pytest.approx(estimate(study, SIZES, SPEEDS) + checks)
    # Concurrently, a round waits for its longest, and no trial for the next one of its method.
    alone = {"methods": ("lora",), "halving": True}
    one, three = (estimate(study.model_copy(update=alone), SIZES, SPEEDS, processes=many) for many in (1, 3))
    trial, final = 2 + 100 * 4 + 3 * 150 * 0.1, 2 + 100 * 4 + 150 * 0.1 + 300 * 0.5
    timing = 2 + 30 * 4 + 32 * (0.1 + 0.5)
    assert one == pytest.approx(3 * trial + final)
    assert three == pytest.approx(3 * trial + final + timing)


def test_only_the_documents_that_are_scored_are_written() -> None:
    """40 of the 300 test documents, two examples in each: 80 texts."""
    sizes = DataSizes(800, 150, 150, test_examples=600, test_documents=300)
    study = STUDY.model_copy(update={"methods": ("zero_shot",)})
    fewer = study.model_copy(update={"scored_documents": (60, 40)})
    assert estimate(study, sizes, SPEEDS) - estimate(fewer, sizes, SPEEDS) == pytest.approx((600 - 80) * 0.5)


def test_steps_of_a_method() -> None:
    assert steps_of(STUDY, SIZES, "lora") == 300
    assert steps_of(STUDY, SIZES, "lora", 0.1) == 50
    assert steps_of(STUDY.model_copy(update={"steps": {"lora": 7}}), SIZES, "lora") == 7
