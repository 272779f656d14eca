"""How a limited time is shared: nothing below the floors before it must be, and more time never detects less."""

import dataclasses
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneoff.results.study_state import Speed
from tuneoff.spec import DataSpec, ModelSpec, StudySpec, TrainSpec
from tuneoff.stats.power import planned_difference
from tuneoff.study.allocation import FLOOR, SMALLEST, Size, allocate, floor_of, resized, size_of, smallest_difference
from tuneoff.study.duration import DataSizes, Speeds, estimate

METHODS = ("zero_shot", "few_shot", "soft_prompt", "lora", "full")
SAMSUM = DataSizes(
    train_examples=14_637, validation_examples=814, validation_documents=814, test_examples=819, test_documents=819
)
STARTER = DataSizes(
    train_examples=300, validation_examples=60, validation_documents=20, test_examples=150, test_documents=50
)
STUDY = StudySpec(models=(ModelSpec(name="tiny"),), methods=METHODS, seeds=3, trials=2, data=DataSpec(source="starter"))
MINUTE, HOUR = 60.0, 3600.0


def speeds_of(step: float, write: float, start: float = 8.0) -> Speeds:
    """A machine on which a step of LoRA takes `step` seconds, and a text `write`."""
    steps = {"soft_prompt": 0.8 * step, "lora": step, "full": 1.1 * step}
    return {
        ("tiny", name): Speed(start=start, step=steps.get(name, 0.0), check=write / 4, write=write) for name in METHODS
    }


SLOW = speeds_of(3.5, 1.0)
FAST = speeds_of(0.5, 0.1, 2.0)


def lasts(study: StudySpec, sizes: DataSizes, speeds: Speeds, seconds: float) -> bool:
    return estimate(study, sizes, speeds) <= seconds


def size_in(seconds: float, study: StudySpec = STUDY, sizes: DataSizes = SAMSUM, speeds: Speeds = SLOW) -> Size:
    return allocate(study, sizes, partial(lasts, sizes=sizes, speeds=speeds, seconds=seconds))


def test_a_quarter_of_an_hour_on_samsum_is_not_ten_steps_and_ten_documents() -> None:
    """A busy machine, where the earlier ladder ended at 10 steps, 10 documents and 2 seeds."""
    size = size_in(13.5 * MINUTE)
    assert size.documents >= 30
    assert size.steps >= 50
    assert size.seeds == 1
    # Twice as slow: the steps are reduced before the documents.
    slower = size_in(13.5 * MINUTE, speeds=speeds_of(7, 2.0, 12.0))
    assert slower.documents == 30
    assert 10 < slower.steps < 50


def test_the_rows_in_their_order() -> None:
    """SAMSum on the slow machine, from seconds to days."""
    assert size_in(1.0) == SMALLEST
    hour, night = size_in(HOUR), size_in(10 * HOUR)
    assert hour.documents == 100
    assert hour.seeds == 3
    assert night.documents >= 200
    assert night.trials == 2
    assert night.steps >= 200
    assert size_in(1e9) == size_of(STUDY, SAMSUM)


def test_a_small_study_is_whole_as_soon_as_it_fits() -> None:
    """The starter set: 38 steps are an epoch, 50 documents are all."""
    whole = size_of(STUDY, STARTER)
    assert whole == Size(documents=50, seeds=3, steps=38, trials=2, validation=20, fractions=1)
    assert size_in(15 * MINUTE, sizes=STARTER, speeds=FAST) == whole
    floor = floor_of(STUDY, STARTER)
    assert floor == Size(documents=30, seeds=1, steps=38, trials=0, validation=16, fractions=1)
    needed = estimate(resized(STUDY, floor, STARTER), STARTER, FAST)
    assert size_in(needed, sizes=STARTER, speeds=FAST) == floor


def test_two_seeds_are_not_bought_with_the_time_of_documents() -> None:
    """They hardly show how much seeds differ: one seed, and then three."""
    assert {size_in(minutes * MINUTE).seeds for minutes in range(5, 120, 5)} == {1, 3}


def test_all_methods_get_the_same() -> None:
    for minutes in (3, 15, 60):
        study = resized(STUDY, size_in(minutes * MINUTE), SAMSUM)
        assert study.methods == METHODS
        assert study.steps == {}
        assert study.hyperparameters == STUDY.hyperparameters


def test_steps_by_method_keep_their_proportions() -> None:
    equal_time = STUDY.model_copy(update={"steps": {"soft_prompt": 400, "lora": 300, "full": 200}})
    size = size_in(15 * MINUTE, equal_time)
    assert size.steps < 400
    study = resized(equal_time, size, SAMSUM)
    assert study.steps["soft_prompt"] == size.steps
    assert study.steps["full"] == pytest.approx(study.steps["soft_prompt"] / 2, abs=1)


def test_methods_that_train_nothing_have_no_steps() -> None:
    study = STUDY.model_copy(update={"methods": ("zero_shot",)})
    assert size_of(study, SAMSUM).steps == 0
    small, large = (size_in(minutes * MINUTE, study) for minutes in (2, 4))
    assert 30 < small.documents < large.documents
    assert (small.seeds, small.steps) == (3, 0)  # one run whatever the number of seeds


def test_one_method_gets_documents_and_seeds() -> None:
    study = STUDY.model_copy(update={"methods": ("lora",)})
    few, more = (size_in(minutes * MINUTE, study) for minutes in (10, 60))
    assert few.documents >= 30
    assert few.steps >= 50
    assert (more.documents, more.seeds) >= (100, 3)


def test_documents_of_outside_systems_are_kept() -> None:
    study = STUDY.model_copy(update={"predictions": {"api": "api.jsonl"}})
    assert size_in(1.0, study).documents == 819
    assert resized(study, size_in(1.0, study), SAMSUM).scored_documents == ()


def test_what_fits_as_asked_is_not_changed() -> None:
    assert resized(STUDY, size_in(1e9), SAMSUM) == STUDY


def test_a_study_that_is_smaller_than_the_floor_stays_as_it_is() -> None:
    study = STUDY.model_copy(
        update={"seeds": 1, "trials": 0, "train": TrainSpec(max_steps=5), "data": DataSpec(source="starter")}
    )
    tiny = DataSizes(40, 4, 4, 6, 6)
    assert size_in(1.0, study, tiny) == size_of(study, tiny) == Size(6, 1, 5, 0, 4, 1)


numbers = st.integers(min_value=1, max_value=400)


@settings(max_examples=25, deadline=None)
@given(
    documents=numbers,
    seeds=st.integers(1, 5),
    trials=st.integers(0, 4),
    epochs=st.sampled_from([0.05, 1.0, 3.0]),
    fractions=st.sampled_from([(1.0,), (0.1, 0.3, 1.0)]),
    train=st.integers(20, 3000),
    step=st.floats(0.05, 10),
    write=st.floats(0.01, 4),
    methods=st.sampled_from([METHODS, ("zero_shot", "lora"), ("lora",), ("zero_shot", "few_shot")]),
    part=st.floats(0.001, 1.1),
    more=st.floats(1, 3),
)
def test_more_time_never_detects_less(
    documents: int,
    seeds: int,
    trials: int,
    epochs: float,
    fractions: tuple[float, ...],
    train: int,
    step: float,
    write: float,
    methods: tuple[str, ...],
    part: float,
    more: float,
) -> None:
    sizes = DataSizes(train, 40, 40, documents, documents)
    study = STUDY.model_copy(
        update={
            "methods": methods,
            "seeds": seeds,
            "trials": trials,
            "fractions": fractions,
            "train": TrainSpec(epochs=epochs),
        }
    )
    speeds = speeds_of(step, write)
    whole = size_of(study, sizes)
    seconds = part * estimate(study, sizes, speeds)
    short, long = (size_in(limit, study, sizes, speeds) for limit in (seconds, more * seconds))
    for size, limit in ((short, seconds), (long, more * seconds)):
        assert size == size.at_most(whole)
        smallest = size.documents == min(10, documents) and size.seeds == 1 and size.trials == 0
        assert smallest or estimate(resized(study, size, sizes), sizes, speeds) <= limit
        assert size_of(resized(study, size, sizes), sizes) == size
    found = [smallest_difference(study, size.documents, size.seeds) for size in (short, long)]
    # Critical values are computed from points, so a document more may detect 0.2 % less.
    assert found[1] <= found[0] * 1.002
    assert short == size_in(seconds, study, sizes, speeds)


@pytest.mark.parametrize("sizes", [SAMSUM, STARTER])
@pytest.mark.parametrize("speeds", [SLOW, FAST])
@pytest.mark.parametrize("minutes", [2, 4, 8, 15, 30, 60, 120, 600])
def test_the_limit_is_used(sizes: DataSizes, speeds: Speeds, minutes: int) -> None:
    """Nothing more of what was asked for fits into what is left."""
    size, whole = size_in(minutes * MINUTE, STUDY, sizes, speeds), size_of(STUDY, sizes)
    for name in ("steps", "trials", "validation"):
        more = dataclasses.replace(size, **{name: getattr(size, name) + 1})
        fits = lasts(resized(STUDY, more, sizes), sizes, speeds, minutes * MINUTE)
        assert not fits or getattr(size, name) == getattr(whole, name), name


@pytest.mark.parametrize("documents", [4, 10, 17, 50, 99, 300])
def test_the_smallest_difference_between_computed_points(documents: int) -> None:
    varies = np.array([False, True, True, True, True])
    exact = min(planned_difference(varies, documents, seeds) for seeds in (1, 2, 3))
    assert smallest_difference(STUDY, documents, 3) == pytest.approx(exact, rel=0.015)


def test_the_floors_are_those_of_the_docs() -> None:
    assert dataclasses.astuple(FLOOR) == (30, 1, 50, 0, 16, 1)


@pytest.mark.parametrize("minutes", [1, 5, 15, 40, 120, 400, 2000])
def test_a_study_with_looks_has_the_seeds_of_a_look_and_never_fewer_than_the_first(minutes: int) -> None:
    study = StudySpec.model_validate({**STUDY.model_dump(), "seeds": 8, "until_settled": True})
    assert size_in(minutes * MINUTE, study).seeds in study.looks
