"""LoRA: low-rank products beside linear layers."""

import pytest
import torch
from method_helpers import TinyModel, encoded, logits, logits_of_base, train, write_texts

from support.tiny_bases import load_tiny
from tiny import ARCHITECTURES
from tuneoff.methods import build


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_lora_starts_as_the_base_and_merges(architecture: str, tiny_model: TinyModel) -> None:
    base = load_tiny(tiny_model(architecture))
    rows = encoded(base)
    expected = logits_of_base(base, rows)
    adapted = build("lora", {}).adapt(base, [], 0)
    adapted.train_mode(False)
    assert torch.equal(logits(adapted, rows), expected)
    assert adapted.details["target_modules"]
    assert not any("lm_head" in module for module in adapted.details["target_modules"])
    train(adapted, rows)
    tuned = logits(adapted, rows)
    assert not torch.allclose(tuned, expected)
    adapted.merge()
    torch.testing.assert_close(logits(adapted, rows), tuned, atol=1e-3, rtol=1e-3)


def test_an_adapted_embedding_is_padded_as_before(tiny_model: TinyModel) -> None:
    base = load_tiny(tiny_model("llama"))
    adapted = build("lora", {"target_modules": ("embed_tokens", "q_proj")}).adapt(base, [], 0)
    assert base.pad_id == 0
    write_texts(adapted, base, encoded(base), 2)
