"""Prefill in micro-batches, with the shared prefix read once, gives the same as reading a batch in one pass."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from support.tiny_bases import load_tiny
from support.token_rows import (
    CPU,
    LazyRows,
    VirtualTokens,
    key_value_prefix,
    random_rows,
    random_virtual_tokens,
)
from tiny import ARCHITECTURES
from tuneoff.engine import prefill
from tuneoff.engine.generation import generate
from tuneoff.engine.kernels.attention import use_causal_attention
from tuneoff.engine.loss import collate, target_loss
from tuneoff.engine.parallel import ParallelWorkers
from tuneoff.engine.prefill import (
    Prefiller,
    changes_frequencies,
    has_plain_kv_cache,
    left_padded_inputs,
    read_shared_prefix,
    shared_prefix_for_loss,
)
from tuneoff.prompts import Encoded
from tuneoff.spec import GenerateSpec

pytestmark = pytest.mark.usefixtures("several_threads")

LENGTHS = ((9, 0), (2, 0), (17, 0), (5, 0), (5, 0))


def write(adapted: VirtualTokens, prompts: Sequence[Encoded], *, in_one_pass: bool) -> list[tuple[int, ...]]:
    spec = GenerateSpec(max_new_tokens=6, batch_size=3)
    with pytest.MonkeyPatch.context() as patch:
        if in_one_pass:
            patch.setattr(prefill, "has_plain_kv_cache", lambda model: False)
        texts = generate(adapted, prompts, spec, stop_ids=frozenset({1}), pad_id=0, device=CPU)
    return [text.token_ids for text in texts]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("where", [None, "before", "after"])
@pytest.mark.parametrize("shared", [0, 12])
def test_text_is_the_same_as_with_one_pass(
    tiny_model: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    where: str | None,
    shared: int,
) -> None:
    monkeypatch.setattr(prefill, "_MICRO_BATCH_TOKENS", 24)  # several micro-batches in each batch
    model = load_tiny(tiny_model(architecture)).model
    adapted = VirtualTokens(model, **({where: random_virtual_tokens(model, 4)} if where else {}))
    prompts = random_rows(LENGTHS, shared=shared)
    assert write(adapted, prompts, in_one_pass=False) == write(adapted, prompts, in_one_pass=True)


def test_logits_and_cache_continue_each_prompt(tiny_model: Callable[[str], Path]) -> None:
    model = load_tiny(tiny_model("llama")).model
    prompts = random_rows(LENGTHS, shared=12)
    with torch.inference_mode():
        batch = Prefiller(VirtualTokens(model), prompts, 0, CPU).prefill(prompts, 4)
        assert batch.mask_BT.sum(1).tolist() == [len(row.prompt) for row in prompts]
        for index, row in enumerate(prompts):
            alone = model(torch.tensor([row.prompt]), use_cache=True)
            torch.testing.assert_close(batch.logits_BV[index], alone.logits[0, -1], rtol=1e-5, atol=1e-5)
            for ours, theirs in zip(batch.cache.layers, alone.past_key_values.layers, strict=True):
                keys = ours.keys[index, :, -len(row.prompt) :]  # padded on the left
                torch.testing.assert_close(keys, theirs.keys[0], rtol=1e-4, atol=1e-4)


def test_the_shared_prefix_is_read_once(tiny_model: Callable[[str], Path]) -> None:
    model = load_tiny(tiny_model("llama")).model
    seen: list[int] = []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"].numel()),
        with_kwargs=True,
    )
    prompts = random_rows(LENGTHS, shared=12)
    with torch.inference_mode():
        prefiller = Prefiller(VirtualTokens(model), prompts, 0, CPU)
        assert seen == [12]
        prefiller.prefill(prompts[:1], 4)
    assert seen == [12, 9]


def test_the_shared_prefix_leaves_a_token_of_every_prompt(tiny_model: Callable[[str], Path]) -> None:
    adapted = VirtualTokens(load_tiny(tiny_model("llama")).model)
    whole = random_rows(((20, 1),))[0]
    rows = [whole, Encoded("part", whole.prompt[:15], (1,), 0)]
    shared = read_shared_prefix(adapted, rows, CPU, min_tokens=8)
    assert shared is not None
    assert (shared.tokens, shared.positions) == (14, 14)
    assert [len(shared.strip(row).prompt) for row in rows] == [6, 1]
    assert read_shared_prefix(adapted, rows, CPU, min_tokens=15) is None
    assert read_shared_prefix(adapted, rows[:1], CPU, min_tokens=8) is None  # a single prompt shares nothing
    assert read_shared_prefix(adapted, [], CPU, min_tokens=8) is None


def test_virtual_tokens_are_part_of_the_shared_prefix(tiny_model: Callable[[str], Path]) -> None:
    model = load_tiny(tiny_model("llama")).model
    rows = random_rows(LENGTHS)  # without common tokens
    for before in (key_value_prefix(model, [5, 6, 7]), random_virtual_tokens(model, 3)):
        adapted = VirtualTokens(model, before=before)
        assert read_shared_prefix(adapted, rows, CPU, min_tokens=8) is None
        shared = read_shared_prefix(adapted, rows, CPU, min_tokens=8, virtual_tokens_suffice=True)
        assert shared is not None
        assert (shared.tokens, shared.positions) == (0, 3)


def test_virtual_tokens_after_the_prompt_exclude_a_shared_prefix_for_losses(
    tiny_model: Callable[[str], Path],
) -> None:
    model = load_tiny(tiny_model("llama")).model
    rows = random_rows(shared=80)
    assert shared_prefix_for_loss(VirtualTokens(model), rows, CPU) is not None
    after = random_virtual_tokens(model, 3)
    assert shared_prefix_for_loss(VirtualTokens(model, after=after), rows, CPU) is None


def test_losses_are_the_same_with_a_shared_prefix(tiny_model: Callable[[str], Path]) -> None:
    adapted = VirtualTokens(load_tiny(tiny_model("llama")).model)
    rows = random_rows(shared=80)
    shared = shared_prefix_for_loss(adapted, rows, CPU)
    assert shared is not None
    batch = collate([shared.strip(row) for row in rows], 0, CPU)
    logits, _ = shared.logits(batch.ids_BT, batch.predicts_BT)
    found = nn.functional.cross_entropy(logits, batch.targets_N, reduction="sum")
    torch.testing.assert_close(found, target_loss(adapted, collate(rows, 0, CPU)), rtol=1e-5, atol=0)


def test_no_row_is_kept_while_the_shared_prefix_is_found(tiny_model: Callable[[str], Path]) -> None:
    rows = LazyRows(50)
    adapted = VirtualTokens(load_tiny(tiny_model("llama")).model)
    assert read_shared_prefix(adapted, rows, CPU, min_tokens=8) is None
    assert rows.most_alive <= 3


def test_sliding_windows_have_no_plain_kv_cache(tiny_model: Callable[[str], Path]) -> None:
    plain = {name: has_plain_kv_cache(load_tiny(tiny_model(name)).model) for name in ARCHITECTURES}
    assert plain == {"gpt_neo": True, "llama": True, "gpt2": True, "qwen2": True, "gemma3": False}


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({"rope_type": "dynamic", "factor": 2.0}, True),
        ({"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "factor": 4.0}, True),
        ({"rope_type": "linear", "factor": 2.0}, False),
        ({"rope_type": "default"}, False),
    ],
)
def test_keys_of_a_prefix_are_not_kept_where_frequencies_depend_on_the_length(
    settings: dict[str, object], changes: bool
) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    rope = {"rope_theta": 1e4, "original_max_position_embeddings": 16, **settings}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, max_position_embeddings=64, rope_parameters=rope, **sizes))
    assert changes_frequencies(model) == changes
    assert has_plain_kv_cache(model) == (not changes)
    assert ParallelWorkers(CPU, torch.float32, alone=True).count == 1


@pytest.mark.parametrize("where", [None, "before", "after"])
def test_left_padding_keeps_virtual_tokens_beside_the_text(
    tiny_model: Callable[[str], Path], where: str | None
) -> None:
    model = load_tiny(tiny_model("llama")).model
    virtual_VD = random_virtual_tokens(model, 2)
    rows = random_rows(((3, 0), (1, 0)))
    inputs, mask_BT = left_padded_inputs(VirtualTokens(model, **({where: virtual_VD} if where else {})), rows, 0, CPU)
    extra = 2 if where else 0
    assert mask_BT.tolist() == [[1] * (3 + extra), [0, 0] + [1] * (1 + extra)]
    if where is None:
        assert inputs["input_ids"].tolist() == [list(rows[0].prompt), [0, 0, *rows[1].prompt]]
        return
    text_TD = model.get_input_embeddings()(torch.tensor(rows[1].prompt))
    expected = torch.cat([virtual_VD, text_TD] if where == "before" else [text_TD, virtual_VD])
    assert torch.equal(inputs["inputs_embeds"][1, 2:], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
def test_attention_without_masks_after_a_shared_prefix(
    tiny_model: Callable[[str], Path], architecture: str, dtype: torch.dtype
) -> None:
    """Queries that follow a shared prefix see all of it, and no later position."""
    model = load_tiny(tiny_model(architecture), dtype).model
    prompts = random_rows(LENGTHS, shared=12)

    def logits() -> torch.Tensor:
        with torch.inference_mode():
            return Prefiller(VirtualTokens(model), prompts, 0, CPU).prefill(prompts, 1).logits_BV

    expected = logits()
    assert use_causal_attention(model, CPU)
    close = 1e-5 if dtype == torch.float32 else 0.05  # sums in another order; bf16 has 8 bits
    torch.testing.assert_close(logits(), expected, rtol=close, atol=close)
