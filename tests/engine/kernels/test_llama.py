"""Models with fused layers compute the same, and only layers with the code of Llama are replaced."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tiny import ARCHITECTURES
from tuneoff.engine.kernels import fused
from tuneoff.engine.kernels.llama import use_fused_layers

CPU = torch.device("cpu")
needs_kernels = pytest.mark.skipif(not fused.are_available(CPU), reason="no C compiler when tuneoff was installed")


def logits_and_gradients(folder: Path, *, replace_layers: bool) -> tuple[int, list[torch.Tensor]]:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    changed = use_fused_layers(model, CPU) if replace_layers else 0
    ids = torch.randint(3, 50, (2, 12), generator=torch.Generator().manual_seed(0))
    logits = model(ids).logits
    logits.square().mean().backward()
    return changed, [logits.detach(), *(weight.grad for weight in model.parameters())]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_models_compute_the_same(tiny_model: Callable[[str], Path], architecture: str) -> None:
    """All weights get the same gradients. Layers that differ from Llama's are kept: in Gemma 3 all but the rotation."""
    changed, mine = logits_and_gradients(tiny_model(architecture), replace_layers=True)
    _, usual = logits_and_gradients(tiny_model(architecture), replace_layers=False)
    layers = 2  # each has two norms, a rotation and a gate; the model has a final norm
    replaced = {"llama": 4 * layers + 1, "qwen2": 4 * layers + 1, "gemma3": layers}.get(architecture, 0)
    assert changed == (replaced if fused.are_available(CPU) else 0)
    for one, other in zip(mine, usual, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)  # another order of operations


def test_without_kernels_nothing_is_replaced(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, usual = logits_and_gradients(tiny_model("llama"), replace_layers=False)
    monkeypatch.setattr(fused, "_compiled_kernels", dict)
    changed, mine = logits_and_gradients(tiny_model("llama"), replace_layers=True)
    assert changed == 0
    assert all(torch.equal(one, other) for one, other in zip(mine, usual, strict=True))


def test_only_this_model_changes(tiny_model: Callable[[str], Path]) -> None:
    """The classes and functions of transformers do not change."""
    from transformers import AutoModelForCausalLM
    from transformers.models.llama import modeling_llama

    before = modeling_llama.apply_rotary_pos_emb, modeling_llama.LlamaRMSNorm.forward, modeling_llama.LlamaMLP.forward
    use_fused_layers(AutoModelForCausalLM.from_pretrained(tiny_model("llama")), CPU)
    after = modeling_llama.apply_rotary_pos_emb, modeling_llama.LlamaRMSNorm.forward, modeling_llama.LlamaMLP.forward
    assert before == after


@needs_kernels
def test_a_norm_that_rounds_at_another_step_is_not_replaced() -> None:
    """OLMo 2 multiplies by the weight before rounding."""
    from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

    assert use_fused_layers(Olmo2RMSNorm(8), CPU) == 0
    assert use_fused_layers(Qwen3RMSNorm(8), CPU) == 1


@needs_kernels
def test_a_rotation_with_another_helper_is_not_replaced() -> None:
    """NanoChat's function is that of Llama, but the helper that it calls rotates in the other direction."""
    from transformers import NanoChatConfig, NanoChatForCausalLM

    config = NanoChatConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    model = NanoChatForCausalLM(config).eval()
    ids = torch.randint(3, 50, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(ids).logits
        use_fused_layers(model, CPU)
        torch.testing.assert_close(model(ids).logits, before, rtol=1e-4, atol=1e-5)
