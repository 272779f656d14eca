"""A run's spec: data come from one source, and hashes do not depend on the order of keys."""

import pytest
from pydantic import ValidationError

from tuneoff.spec import DataSpec, RunSpec
from tuneoff.spec.run import MOST_BEAMS, MOST_TEXTS_AT_ONCE, GenerateSpec, MethodSpec, ModelSpec, PromptSpec


def test_data_come_from_one_source() -> None:
    for settings in ({}, {"source": "starter", "train_file": "x"}, {"source": "starter", "test_file": "x"}):
        with pytest.raises(ValidationError):
            DataSpec.model_validate(settings)


def test_a_stored_run_may_have_more_beams_than_one_that_is_asked_for_but_not_any_number() -> None:
    stored = GenerateSpec.model_validate_json('{"num_beams": 100, "batch_size": 10000}')
    assert stored.num_beams > MOST_BEAMS
    assert stored.batch_size > MOST_TEXTS_AT_ONCE
    for settings in ({"num_beams": 10**6}, {"batch_size": 10**9}, {"num_beams": 0}, {"batch_size": -1}):
        with pytest.raises(ValidationError):
            GenerateSpec.model_validate(settings)


def test_a_final_run_on_all_the_data_is_a_main_run() -> None:
    data = DataSpec(source="starter")
    run = RunSpec(model=ModelSpec(), prompt=PromptSpec(), data=data, method=MethodSpec(name="lora"))
    assert run.is_main
    for changes in ({"role": "trial"}, {"role": "timing"}, {"fraction": 0.5}):
        assert not run.model_copy(update=changes).is_main
