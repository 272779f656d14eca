"""Full fine-tuning, and how a tuned model replaces the base."""

from pathlib import Path

import pytest
from method_helpers import TinyModel

from support.tiny_bases import load_tiny
from tuneoff.methods import build


@pytest.mark.parametrize("name", ["full", "last_layers"])
def test_a_restored_model_replaces_the_base(name: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    base = load_tiny(tiny_model("llama"))
    method = build(name, {})
    method.adapt(base, [], 0).save(tmp_path)
    old = base.model
    assert method.restore(base, tmp_path).model is base.model
    assert {parameter.device.type for parameter in old.parameters()} == {"meta"}
