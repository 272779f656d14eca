"""Cached prompts give the same losses, gradients and weights as prompts that are computed at every step."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from support.tiny_bases import load_tiny
from support.token_rows import CPU, LazyRows, random_rows
from support.training import short_training
from tuneoff import models
from tuneoff.engine import prompt_cache, trainer
from tuneoff.engine.loss import collate, target_loss
from tuneoff.engine.prompt_cache import PromptCache, make_prompt_cache
from tuneoff.methods import build
from tuneoff.prompts import Encoded
from tuneoff.results.run_record import Curve

pytestmark = pytest.mark.usefixtures("several_threads")

LENGTHS = ((9, 3), (2, 6), (27, 1), (18, 4), (11, 5), (14, 2))
PLENTY = 10**9


def adapt(base: models.BaseModel, name: str = "soft_prompt_after"):
    return build(name, {"num_virtual_tokens": 5} if "prompt" in name else {}).adapt(base, [], 0)


def rows(*, shared: int = 0) -> list[Encoded]:
    return random_rows(LENGTHS, shared=shared)


@pytest.mark.parametrize("shared", [0, 12])
@pytest.mark.parametrize("architecture", ["gpt_neo", "gpt2", "llama", "qwen2"])
def test_loss_and_gradient_are_those_without_a_cache(
    tiny_model: Callable[[str], Path], architecture: str, shared: int
) -> None:
    adapted, some = adapt(load_tiny(tiny_model(architecture))), rows(shared=shared)
    expected = target_loss(adapted, collate(some, 0, CPU))
    [wanted] = torch.autograd.grad(expected, [adapted.prompt_VD])
    prompts = PromptCache(adapted, some, some, 0, CPU, PLENTY)
    for cached in (0, len(some)):  # computed first, then from the cache
        assert prompts.size == cached
        found = prompts.loss(some)
        [gradient] = torch.autograd.grad(found, [adapted.prompt_VD])
        # fp32 products of other shapes are summed in another order: a few units in the sixth digit
        torch.testing.assert_close(found, expected, atol=0, rtol=1e-5)
        torch.testing.assert_close(gradient, wanted, atol=1e-4, rtol=1e-3)


def fit(adapted, scratch: Path) -> Curve:
    return short_training(adapted, rows(), rows(), scratch).fit()


def test_a_training_with_a_cache_is_the_training_without(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = fit(adapt(load_tiny(tiny_model("qwen2"))), tmp_path)
    monkeypatch.setattr(trainer, "make_prompt_cache", lambda *args: None)
    always = fit(adapt(load_tiny(tiny_model("qwen2"))), tmp_path)
    for mine, other in zip(once.train, always.train, strict=True):
        assert mine.loss == pytest.approx(other.loss, rel=1e-4)  # as above, after nine steps
    assert once.best_validation_loss == pytest.approx(always.best_validation_loss, rel=1e-4)


def test_free_memory_changes_no_bit(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No prompt, some or all prompts cached: the same losses and the same weights."""
    results = []
    for free in (0, 60_000, PLENTY):
        monkeypatch.setattr(prompt_cache, "free_bytes", lambda device, free=free: free)
        adapted = adapt(load_tiny(tiny_model("qwen2")))
        results.append((fit(adapted, tmp_path), adapted.prompt_VD.detach()))
    for curve, prompt_VD in results[1:]:
        assert curve == results[0][0]
        assert torch.equal(prompt_VD, results[0][1])


def test_only_prompts_that_are_not_cached_are_computed_again(tiny_model: Callable[[str], Path]) -> None:
    base = load_tiny(tiny_model("llama"))
    adapted, some = adapt(base), rows()
    seen: list[int] = []
    base.model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"].numel()) if "input_ids" in kwargs else None,
        with_kwargs=True,
    )
    prompts = PromptCache(adapted, some, some[:4], 0, CPU, PLENTY)
    for _ in range(3):
        with torch.inference_mode():
            prompts.loss(some)
    assert sorted(seen) == sorted([len(row.prompt) for row in some] + 2 * [len(row.prompt) for row in some[4:]])
    assert prompts.size == 4
    # Bytes per token: key and value, 2 layers, 2 heads of 8, 4 bytes each.
    tight = PromptCache(adapted, some, some, 0, CPU, 2 * 2 * 2 * 8 * 4 * (9 + 2 + 18))
    tight.loss(some)
    assert tight.size == 3  # the third prompt did not fit, the fourth did


def test_there_is_no_cache_if_training_changes_prompts(tiny_model: Callable[[str], Path]) -> None:
    for name in ("soft_prompt", "prefix_tuning", "lora", "zero_shot"):
        assert make_prompt_cache(adapt(load_tiny(tiny_model("llama")), name), [(rows(), False)], 0, CPU) is None
    assert (
        make_prompt_cache(adapt(load_tiny(tiny_model("gemma3"))), [(rows(), False)], 0, CPU) is None
    )  # its sliding windows drop keys
    assert make_prompt_cache(adapt(load_tiny(tiny_model("llama"))), [(rows(), False)], 0, CPU) is not None
    tuned = adapt(load_tiny(tiny_model("llama")))
    next(tuned.model.parameters()).requires_grad_(True)
    assert make_prompt_cache(tuned, [(rows(), False)], 0, CPU) is None


def test_no_row_is_kept_while_a_cache_is_made(tiny_model: Callable[[str], Path]) -> None:
    """A million rows do not fit in memory: of each, only a hash is kept."""
    adapted, some = adapt(load_tiny(tiny_model("llama"))), LazyRows(400)
    make_prompt_cache(adapted, [(some, True)], 0, CPU)
    tracemalloc.start()
    try:
        prompts = make_prompt_cache(adapted, [(some, True)], 0, CPU)
        used_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert prompts is not None
    assert some.most_alive <= 3
    assert used_bytes < 200 * len(some)  # the ids of a row take more than 10 kB
