"""Fused activations compute the same as the chain of operations, and nothing else is replaced."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tiny import ARCHITECTURES
from tuneoff.engine.kernels.activation import use_fused_activations


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_and_gradients_do_not_change(tiny_model: Callable[[str], Path], architecture: str) -> None:
    from transformers import AutoModelForCausalLM

    ids = torch.randint(3, 50, (2, 12), generator=torch.Generator().manual_seed(0))

    def computed(*, fused: bool) -> list[torch.Tensor]:
        model = AutoModelForCausalLM.from_pretrained(tiny_model(architecture), dtype=torch.float32).eval()
        if fused:
            assert use_fused_activations(model) == (2 if architecture in ("gpt2", "gpt_neo") else 0)
            assert use_fused_activations(model) == 0
        logits = model(ids).logits
        logits.square().mean().backward()
        return [logits, *(weight.grad for weight in model.parameters())]

    for mine, theirs in zip(computed(fused=True), computed(fused=False), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)  # another order of operations
