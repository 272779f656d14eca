"""Attention through dense products or without masks gives the same as PyTorch's attention."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tuneoff.engine.kernels import attention
from tuneoff.engine.kernels.attention import DenseCausalAttention, use_causal_attention

CPU = torch.device("cpu")


@pytest.mark.parametrize(("heads", "shared"), [(4, 4), (6, 2), (3, 1)])
def test_output_and_gradients_are_those_of_sdpa(heads: int, shared: int) -> None:
    torch.manual_seed(0)
    made = [torch.randn(2, 7, count, 8).transpose(1, 2) for count in (heads, shared, shared)]
    weight = torch.randn(2, heads, 7, 8)

    def through(attend: object) -> list[torch.Tensor]:
        q, k, v = (states.clone().requires_grad_() for states in made)
        out = attend(q, k, v)  # type: ignore[operator]
        return [out, *torch.autograd.grad((out * weight).sum(), (q, k, v))]

    ours = through(lambda q, k, v: DenseCausalAttention.apply(q, k, v, 0.3))
    usual = through(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=heads != shared)
    )
    for mine, theirs in zip(ours, usual, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)  # fp32 sums in another order


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "qwen2", "gemma3", "gpt_neo"])
def test_models_compute_the_same_with_dense_products(tiny_model: Callable[[str], Path], architecture: str) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model(architecture), dtype=torch.bfloat16).eval()
    ids = torch.randint(3, 50, (2, 12), generator=torch.Generator().manual_seed(0))
    before = model(ids, use_cache=False).logits
    assert use_causal_attention(model, CPU)
    after = model(ids, use_cache=False).logits
    # bf16 has 8 bits: products in another order differ in the last of them
    torch.testing.assert_close(after, before, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", ["position_bias", "softcap"])
def test_attention_of_another_kind_is_left_to_pytorch(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A bias that is added to the scores, for example, would be dropped in bf16."""
    q, k, v = (torch.randn(1, 2, 8, 32).to(torch.bfloat16) for _ in range(3))
    seen = []

    def pytorchs(_module, query, *_rest, **given):
        seen.append(given)
        return query.transpose(1, 2), None

    monkeypatch.setattr(attention, "sdpa_attention_forward", pytorchs)
    attention._attend(torch.nn.Identity(), q, k, v, None)
    assert not seen
    more: Any = {name: torch.ones(1)}
    attention._attend(torch.nn.Identity(), q, k, v, None, **more)
    assert [name in given for given in seen] == [True]


@pytest.mark.parametrize("width", [9, 40])  # below and above the window of the local layers, 16
@pytest.mark.parametrize("before", [0, 6])
def test_gpt_neo_computes_the_same_through_the_kernel(
    tiny_model: Callable[[str], Path], width: int, before: int
) -> None:
    """Logits, gradients, rows padded on the left, and rows that continue from a cache, also one token at a time."""
    from transformers import AutoModelForCausalLM

    ids = torch.randint(3, 50, (2, width), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :before] = 0

    def computed(*, ours: bool) -> list[torch.Tensor]:
        model = AutoModelForCausalLM.from_pretrained(tiny_model("gpt_neo"), dtype=torch.float32).eval()
        assert model.config._attn_implementation == "eager"
        if ours:
            assert use_causal_attention(model, CPU)
        whole = model(ids, attention_mask=mask if before else None, use_cache=False).logits[:, before:]
        whole.square().mean().backward()
        # Without padding: queries that continue from a cache.
        first = model(ids[:, : width - 3], use_cache=True)
        more = model(ids[:, width - 3 : -1], past_key_values=first.past_key_values, use_cache=True)
        last = model(ids[:, -1:], past_key_values=more.past_key_values, use_cache=True)
        return [whole, more.logits, last.logits, *(weight.grad for weight in model.parameters())]

    for mine, theirs in zip(computed(ours=True), computed(ours=False), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)  # fp32 sums in another order


def test_a_model_with_an_attention_of_its_own_does_not_change() -> None:
    from transformers import AutoModelForCausalLM, FalconConfig

    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 50}
    model = AutoModelForCausalLM.from_config(FalconConfig(**size, bos_token_id=0, eos_token_id=0))
    assert not use_causal_attention(model, CPU)
    assert model.config._attn_implementation == "sdpa"
