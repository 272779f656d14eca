"""A run's spec: data come from one source, and hashes do not depend on the order of keys."""

import pytest
from pydantic import ValidationError

from tuneoff.spec import DataSpec, RunSpec
from tuneoff.spec.run import MethodSpec, ModelSpec, PromptSpec


def test_data_come_from_one_source() -> None:
    for settings in ({}, {"source": "starter", "train_file": "x"}, {"source": "starter", "test_file": "x"}):
        with pytest.raises(ValidationError):
            DataSpec.model_validate(settings)


def test_a_final_run_on_all_the_data_is_a_main_run() -> None:
    data = DataSpec(source="starter")
    run = RunSpec(model=ModelSpec(), prompt=PromptSpec(), data=data, method=MethodSpec(name="lora"))
    assert run.is_main
    for changes in ({"role": "trial"}, {"role": "timing"}, {"fraction": 0.5}):
        assert not run.model_copy(update=changes).is_main
