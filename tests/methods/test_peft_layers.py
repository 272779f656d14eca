"""Layers of PEFT in a base model: what they replace, their dropout, and what `merge` leaves."""

import pytest
import torch
from method_helpers import TinyModel, encoded, logits, train

from support.tiny_bases import load_tiny
from tuneoff.methods import build
from tuneoff.methods.peft_layers import PeftLayers, has_conv1d


@pytest.mark.parametrize(("architecture", "transposed"), [("gpt2", True), ("llama", False), ("gpt_neo", False)])
def test_transposed_weights_are_recognised(architecture: str, transposed: bool, tiny_model: TinyModel) -> None:
    assert has_conv1d(load_tiny(tiny_model(architecture)).model) == transposed


def test_the_replaced_modules_are_counted(tiny_model: TinyModel) -> None:
    base = load_tiny(tiny_model("llama"))
    adapted = build("lora", {"target_modules": ("q_proj", "v_proj")}).adapt(base, [], 0)
    layers = base.model.config.num_hidden_layers
    assert adapted.details["target_modules"] == {"q_proj": layers, "v_proj": layers}


def test_dropout_masks_change_from_step_to_step_and_are_off_in_evaluation(tiny_model: TinyModel) -> None:
    base = load_tiny(tiny_model("llama"))
    rows = encoded(base)
    adapted = build("lora", {"lora_dropout": 0.5}).adapt(base, [], 0)
    train(adapted, rows, rate=0.1)
    adapted.train_mode(True)
    first = logits(adapted, rows)
    adapted.train_mode(True)
    assert not torch.equal(logits(adapted, rows), first)
    adapted.train_mode(False)
    assert torch.equal(logits(adapted, rows), logits(adapted, rows))


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
@pytest.mark.parametrize(("architecture", "tied"), [("qwen2", True), ("llama", False)])
def test_a_merge_changes_no_logits_of_adapted_embeddings(
    target: str, architecture: str, tied: bool, tiny_model: TinyModel
) -> None:
    """Where embeddings and head are one tensor, a merge would add what was trained for one of them to both."""
    base = load_tiny(tiny_model(architecture))
    assert base.model.config.tie_word_embeddings == tied
    rows = encoded(base)
    adapted = build("lora", {"target_modules": (target, "q_proj")}).adapt(base, [], 0)
    train(adapted, rows)
    adapted.train_mode(False)
    tuned = logits(adapted, rows)
    adapted.merge()
    torch.testing.assert_close(logits(adapted, rows), tuned, atol=1e-3, rtol=1e-3)
    assert adapted.details.get("merged") is (False if tied else None)


def test_after_a_merge_no_layer_of_peft_is_left(tiny_model: TinyModel) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = build("lora", {}).adapt(load_tiny(tiny_model("llama")), [], 0)
    assert isinstance(adapted, PeftLayers)
    assert any(isinstance(module, BaseTunerLayer) for module in adapted.model.modules())
    adapted.merge()
    assert not any(isinstance(module, BaseTunerLayer) for module in adapted.model.modules())
    assert "merged" not in adapted.details
