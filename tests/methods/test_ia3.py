"""(IA)3: one factor for each key, value and inner feed-forward activation, all 1 at the start."""

import pytest
import torch
from method_helpers import TinyModel, encoded, logits, logits_of_base

from support.tiny_bases import load_tiny
from tiny import ARCHITECTURES
from tuneoff.errors import UserError
from tuneoff.methods import build, ia3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_starts_as_the_base(architecture: str, tiny_model: TinyModel) -> None:
    base = load_tiny(tiny_model(architecture))
    rows = encoded(base)
    expected = logits_of_base(base, rows)
    adapted = build("ia3", {}).adapt(base, [], 0)
    adapted.train_mode(False)
    assert torch.equal(logits(adapted, rows), expected)
    assert all(torch.equal(tensor, torch.ones_like(tensor)) for tensor in adapted.state().values())


def test_there_is_one_factor_for_each_key_value_and_inner_activation(tiny_model: TinyModel) -> None:
    base = load_tiny(tiny_model("llama"))
    config = base.model.config
    keys = config.num_key_value_heads * config.hidden_size // config.num_attention_heads
    adapted = build("ia3", {}).adapt(base, [], 0)
    factors = sum(tensor.numel() for tensor in adapted.state().values())
    assert factors == config.num_hidden_layers * (2 * keys + config.intermediate_size)


def test_a_model_without_known_layers_is_refused(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ia3, "_INTO_FEEDFORWARD", ("no_such_layer",))
    with pytest.raises(UserError, match=r"ia3: LlamaForCausalLM has no keys, .*; use lora"):
        build("ia3", {}).adapt(load_tiny(tiny_model("llama")), [], 0)
