"""The loss is the cross entropy over target tokens, whatever the padding and the virtual tokens."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from support.tiny_bases import load_tiny
from support.token_rows import (
    CPU,
    VirtualTokens,
    key_value_prefix,
    random_rows,
    random_virtual_tokens,
)
from tiny import ARCHITECTURES
from tuneoff.engine import loss
from tuneoff.engine.loss import collate, count_virtual_tokens, summed_cross_entropy, target_logits, target_loss
from tuneoff.prompts import Encoded

# Products of other shapes are summed in another order: a few units in the sixth digit of fp32.
CLOSE: dict[str, Any] = {"atol": 0.0, "rtol": 1e-5}


@pytest.fixture(params=ARCHITECTURES)
def model(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path]) -> PreTrainedModel:
    return load_tiny(tiny_model(request.param)).model


def loss_of_embeddings(model: PreTrainedModel, row: Encoded, *, before: Tensor | None, after: Tensor | None) -> Tensor:
    """Summed loss of one row: virtual tokens, prompt, virtual tokens and target are concatenated by hand."""
    embed = model.get_input_embeddings()
    target_N = torch.tensor(row.target)
    parts = [before, embed(torch.tensor(row.prompt)), after, embed(target_N)]
    inputs_TD = torch.cat([part for part in parts if part is not None])
    first = len(inputs_TD) - len(row.target) - 1
    log_probabilities_TV = model(inputs_embeds=inputs_TD[None]).logits[0].log_softmax(-1)
    loss: Tensor = -log_probabilities_TV[first : first + len(row.target)].gather(1, target_N[:, None]).sum()
    return loss


def test_collate_pads_on_the_right_and_marks_what_predicts_a_target() -> None:
    batch = collate([Encoded("a", (5, 6), (7, 8), 0), Encoded("b", (5,), (9,), 0)], 3, CPU)
    assert batch.ids_BT.tolist() == [[5, 6, 7, 8], [5, 9, 3, 3]]
    assert batch.predicts_BT.tolist() == [[False, True, True, False], [True, False, False, False]]
    assert batch.targets_N.tolist() == [7, 8, 9]
    assert batch.tokens == 6


def test_loss_is_that_of_transformers_summed_over_target_tokens(model: nn.Module) -> None:
    expected = torch.tensor(0.0)
    for row in random_rows():
        ids = torch.tensor([row.prompt + row.target])
        labels = ids.clone()
        labels[:, : len(row.prompt)] = -100
        expected = expected + model(input_ids=ids, labels=labels, use_cache=False).loss * len(row.target)
    found = target_loss(VirtualTokens(model), collate(random_rows(), 0, CPU))
    torch.testing.assert_close(found, expected, **CLOSE)


def test_padding_changes_neither_loss_nor_logits(model: nn.Module) -> None:
    adapted, rows = VirtualTokens(model), random_rows()
    alone = torch.cat([target_logits(adapted, collate([row], 0, CPU)) for row in rows])
    for pad_id in (0, 1, 49):
        torch.testing.assert_close(target_logits(adapted, collate(rows, pad_id, CPU)), alone, rtol=1e-4, atol=1e-4)
    summed = sum(float(target_loss(adapted, collate([row], 0, CPU))) for row in rows)
    assert float(target_loss(adapted, collate(rows, 49, CPU))) == pytest.approx(summed, rel=1e-5)


@pytest.mark.parametrize("where", ["before", "after"])
def test_loss_and_gradient_with_virtual_tokens_are_those_of_concatenated_embeddings(
    model: nn.Module, where: str
) -> None:
    virtual_VD = random_virtual_tokens(model, 5).requires_grad_()
    tokens = {"before": None, "after": None, where: virtual_VD}
    expected = torch.stack([loss_of_embeddings(model, row, **tokens) for row in random_rows()]).sum()
    [wanted] = torch.autograd.grad(expected, [virtual_VD])
    found = target_loss(VirtualTokens(model, **tokens), collate(random_rows(), 0, CPU))
    [gradient] = torch.autograd.grad(found, [virtual_VD])
    torch.testing.assert_close(found, expected, **CLOSE)
    torch.testing.assert_close(gradient, wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("architecture", ["gpt_neo", "gpt2", "llama", "qwen2"])
def test_keys_and_values_of_tokens_act_like_these_tokens(tiny_model: Callable[[str], Path], architecture: str) -> None:
    model = load_tiny(tiny_model(architecture)).model
    rows = random_rows(shared=12)
    rest = [Encoded(row.id, row.prompt[12:], row.target, 0) for row in rows]
    prefix = key_value_prefix(model, rows[0].prompt[:12])
    found = target_loss(VirtualTokens(model, before=prefix), collate(rest, 0, CPU))
    torch.testing.assert_close(found, target_loss(VirtualTokens(model), collate(rows, 0, CPU)), **CLOSE)


def test_models_without_a_logits_mask_give_the_same_logits(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = collate(random_rows(), 0, CPU)
    expected = target_logits(VirtualTokens(model), batch)
    assert len(expected) == len(batch.targets_N)
    monkeypatch.setattr(loss, "supports_logits_mask", lambda _model: False)
    torch.testing.assert_close(target_logits(VirtualTokens(model), batch), expected, rtol=1e-5, atol=1e-5)


def test_cross_entropy_is_computed_in_fp32() -> None:
    """In bf16 a sum of 4096 equal terms would be off by more than a percent."""
    logits = torch.zeros(4096, 3, dtype=torch.bfloat16)
    found = summed_cross_entropy(logits, torch.zeros(4096, dtype=torch.long))
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(4096 * torch.tensor(3.0).log().item(), rel=1e-6)


def test_virtual_tokens_are_counted_on_both_sides() -> None:
    model = nn.Identity()
    assert count_virtual_tokens(VirtualTokens(model)) == 0
    assert count_virtual_tokens(VirtualTokens(model, before=torch.zeros(3, 8))) == 3
    assert count_virtual_tokens(VirtualTokens(model, after=torch.zeros(4, 8))) == 4
