"""A decoder layer as one function computes what its modules compute, and steps aside where it cannot."""

import warnings

import numpy as np
import pytest
import torch
from peft import LNTuningConfig, LoraConfig, get_peft_model
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from support.kernel_format import Format, rounding
from tuneoff.engine.kernels import decoder_layer, low_rank, packed_layers, use_fast_paths
from tuneoff.engine.kernels.decoder_layer import use_whole_layers
from tuneoff.engine.kernels.low_rank import fuse_lora_layers
from tuneoff.engine.kv_cache import preallocated_cache

needs_units = pytest.mark.usefixtures("product_units")
CPU = torch.device("cpu")
IDS = torch.randint(3, 60, (3, 40), generator=torch.Generator().manual_seed(0))


def llama(dtype: torch.dtype, **changes: object) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=64, num_hidden_layers=2, head_dim=32, **(sizes | changes))
    return LlamaForCausalLM(config).to(dtype).eval()


def with_lora(model: LlamaForCausalLM, dropout: float):
    torch.manual_seed(1)
    config = LoraConfig(r=8, target_modules="all-linear", lora_dropout=dropout, task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config, autocast_adapter_dtype=False)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return adapted, fuse_lora_layers(adapted, dropout, seed=0)


def results(model, forward) -> dict[str, torch.Tensor]:
    """The logits, and the gradients of all that trains."""
    logits = forward(model)
    logits.double().square().mean().backward()
    return {"logits": logits.detach()} | {
        name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None
    }


def finer() -> torch.dtype:
    """A format with smaller errors than that of the test."""
    return torch.float32 if Format.dtype == torch.bfloat16 else torch.float64


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.double() - other.double()).norm() / other.double().norm())


def factors_of_bits(pool, like):
    """The mask that the kernels draw as bits, as factors."""
    bits = np.unpackbits(pool.kept(like).numpy(), axis=-1, bitorder="little")
    return torch.from_numpy(bits).to(like.dtype) / (1 - pool.p)


def plain_pass(model):
    return model(IDS).logits


def pass_after_a_prefix(model):
    """The first 9 positions are read once and shared by all rows; gradients flow through them."""
    cache = DynamicCache(config=model.config)
    model(IDS[:1, :9], past_key_values=cache, use_cache=True)
    rows = DynamicCache(config=model.config)
    for index, layer in enumerate(cache.layers):
        rows.update(*(one.expand(len(IDS), -1, -1, -1) for one in (layer.keys, layer.values)), index)
    positions = torch.arange(9, IDS.shape[1])[None]
    return model(IDS[:, 9:], past_key_values=rows, position_ids=positions, use_cache=True).logits


@needs_units
@pytest.mark.parametrize("forward", [plain_pass, pass_after_a_prefix])
@pytest.mark.parametrize("kind", ["full", "embeddings", "lora", "lora with dropout"])
def test_outputs_and_all_gradients_are_as_exact_as_without(monkeypatch: pytest.MonkeyPatch, forward, kind: str) -> None:
    """Errors against a finer format are at most a half larger than those of the modules, plus a rounding."""

    monkeypatch.setattr(low_rank.DropoutPool, "mask", factors_of_bits)

    def made(dtype: torch.dtype, *, whole: bool):
        with monkeypatch.context() as patch:
            if not whole:
                patch.setattr(packed_layers, "_compiled_kernels", dict)
            model = llama(dtype)
            model.requires_grad_(kind == "full")
            use_fast_paths(model, CPU)
            if kind == "embeddings":  # as with a soft prompt, gradients pass through layers that do not train
                model.get_input_embeddings().requires_grad_(True)
            if kind in ("full", "embeddings"):
                return results(model, forward)
            adapted, pool = with_lora(model, 0.3 if "dropout" in kind else 0.0)
            adapted.train()
            if pool is not None:
                pool.next_step()
            return results(adapted, forward)

    exact, modules, whole = (
        made(finer(), whole=False),
        made(Format.dtype, whole=False),
        made(Format.dtype, whole=True),
    )
    assert exact.keys() == modules.keys() == whole.keys()
    for name, value in exact.items():
        assert distance(whole[name], value) <= 1.5 * distance(modules[name], value) + rounding(2**-8, 1e-5), name


@needs_units
def test_a_cache_holds_what_the_modules_put_there() -> None:
    model, usual = llama(Format.dtype), llama(Format.dtype)
    use_fast_paths(model, CPU)
    assert all("forward" in layer.__dict__ for layer in model.model.layers)
    caches = DynamicCache(config=model.config), DynamicCache(config=model.config)
    with torch.inference_mode():
        for one, cache in zip((model, usual), caches, strict=True):
            one(IDS[:, :20], past_key_values=cache)
            one(IDS[:, 20:], past_key_values=cache)
    for mine, theirs in zip(caches[0].layers, caches[1].layers, strict=True):
        assert mine.keys.shape == theirs.keys.shape == (3, 2, 40, 32)
        assert distance(mine.keys, theirs.keys) < rounding(0.02, 1e-5)
        assert distance(mine.values, theirs.values) < rounding(0.02, 1e-5)


@needs_units
@pytest.mark.parametrize(
    "reason", ["padding on the left", "one new token", "other widths", "another format", "attention dropout"]
)
def test_a_layer_that_the_kernels_do_not_support_takes_its_own_path(
    monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    """Exactly the numbers of the modules."""
    sizes: dict[str, object] = {}
    if reason == "other widths":
        sizes["intermediate_size"] = 80
    if reason == "attention dropout":
        sizes["attention_dropout"] = 0.5
    dtype = torch.float64 if reason == "another format" else Format.dtype
    found = []
    for whole in (True, False):
        model = llama(dtype, **sizes).train(reason == "attention dropout")
        use_fast_paths(model, CPU)
        if not whole:
            for module in model.model.layers:
                module.__dict__.pop("forward", None)
        elif reason != "another format":
            assert all("forward" in module.__dict__ for module in model.model.layers)
        torch.manual_seed(2)
        with torch.no_grad():
            if reason == "padding on the left":
                mask = torch.ones_like(IDS)
                mask[0, :5] = 0
                found.append(model(IDS, attention_mask=mask).logits)
            else:
                found.append(model(IDS[:, :1] if reason == "one new token" else IDS).logits)
    assert torch.equal(*found)


@needs_units
@pytest.mark.parametrize("kind", ["base", "lora"])
def test_new_tokens_after_prompts_that_are_padded(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Logits of six new tokens for rows of several lengths, as exact as those of the modules."""
    logits, calls, attended_new = {}, [], packed_layers.attended_new

    def counted(*given):
        calls.append(1)
        return attended_new(*given)

    monkeypatch.setattr(packed_layers, "attended_new", counted)
    for name, dtype, whole in (
        ("exact", finer(), False),
        ("modules", Format.dtype, False),
        ("whole", Format.dtype, True),
    ):
        model = llama(dtype).requires_grad_(False)
        if whole:
            use_fast_paths(model, CPU)
        adapted = with_lora(model, 0.0)[0].eval() if kind == "lora" else model
        cache, mask, steps = preallocated_cache(model, 6), torch.ones(3, 20, dtype=torch.long), []
        mask[0, :7] = mask[2, :1] = 0
        with torch.inference_mode():
            adapted(IDS[:, :20], attention_mask=mask, position_ids=mask.cumsum(-1) - 1, past_key_values=cache)
            for step in range(20, 26):
                mask = torch.nn.functional.pad(mask, (0, 1), value=1)
                inputs = {"position_ids": mask.cumsum(-1)[:, -1:] - 1, "attention_mask": mask}
                steps.append(adapted(IDS[:, step : step + 1], past_key_values=cache, **inputs).logits)
        logits[name] = torch.cat(steps, 1)
    assert len(calls) == 6 * 2  # of the whole layers only
    assert distance(logits["whole"], logits["exact"]) <= 1.5 * distance(logits["modules"], logits["exact"]) + rounding(
        2**-8, 1e-5
    )


@needs_units
def test_masks_that_are_no_padding_on_the_left_are_recognized() -> None:
    mask = torch.tensor([[[[False, True, True]]], [[[True, True, True]]]])
    for rows, expected in ((mask, [1, 0]), (mask[1:], [0, 0]), (None, [0, 0])):
        starts = decoder_layer._starts.of(rows, 2, 3)
        assert starts is not None
        assert starts.tolist() == expected
    for other in ([True, False, True], [False, False, False], [True, True, False]):
        mask = torch.tensor([[[other]]])
        assert decoder_layer._starts.of(mask, 1, 3) is None
    assert decoder_layer._starts.of(mask.float(), 1, 3) is None


@needs_units
def test_adapters_that_peft_has_merged_are_used() -> None:
    """PEFT changes the numbers of weights that were packed before, and no version counter says so."""
    model = llama(Format.dtype).requires_grad_(False)
    use_fast_paths(model, CPU)
    with torch.inference_mode():
        base = model(IDS).logits
        adapted, _ = with_lora(model, 0.0)
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.mul_(6)
        beside = adapted(IDS).logits
        merged = adapted.merge_and_unload()
        packed_layers.check_packed_weights(merged)
        inside = merged(IDS).logits
    assert distance(inside, beside) < 0.1 * distance(base, beside)


@needs_units
def test_only_keys_and_values_of_the_last_layer_may_have_gradients() -> None:
    """As when a prefix is read whose own logits nobody needs."""
    model, usual = llama(Format.dtype), llama(Format.dtype)
    use_fast_paths(model, CPU)
    grads = []
    for one in (model, usual):
        cache = DynamicCache(config=one.config)
        one(IDS, past_key_values=cache)
        cache.layers[1].keys.float().square().sum().backward()
        grads.append(one.model.layers[0].mlp.up_proj.weight.grad)
    assert distance(*grads) < rounding(0.03, 1e-5)


@needs_units
def test_norms_with_an_adapter_of_their_own_train() -> None:
    model = llama(Format.dtype)
    use_fast_paths(model, CPU)
    config = LNTuningConfig(target_modules=["input_layernorm", "post_attention_layernorm"], task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unsupported layer type")  # PEFT does not know Llama's norm
        adapted = get_peft_model(model, config)
    found = results(adapted.train(), plain_pass)
    assert sum("layernorm" in name for name in found) == 4


def test_other_layers_are_not_replaced() -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32,
    )  # fmt: skip
    assert use_whole_layers(Qwen3ForCausalLM(config), CPU) == 0
