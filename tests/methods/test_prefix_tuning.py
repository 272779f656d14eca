"""Prefix tuning: trained keys and values before the prompt."""

import dataclasses

import pytest
import torch
from method_helpers import TinyModel, encoded, logits, logits_of_base

from support.tiny_bases import load_tiny
from tiny import ARCHITECTURES
from tuneoff.errors import UserError
from tuneoff.methods import build


def test_prefix_tuning_refuses_a_model_that_drops_old_keys(tiny_model: TinyModel) -> None:
    with pytest.raises(UserError, match="does not keep all keys and values"):
        build("prefix_tuning", {}).adapt(load_tiny(tiny_model("gemma3")), [], 0)


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "gemma3"])
def test_prefix_tuning_starts_as_if_the_text_preceded_the_prompt(architecture: str, tiny_model: TinyModel) -> None:
    """Before any step, the logits are those of the base with the text's tokens before the prompt."""
    base = load_tiny(tiny_model(architecture))
    adapted = build("prefix_tuning", {"initial_prompt": "the paper", "num_virtual_tokens": 7}).adapt(base, [], 0)
    ids = tuple((base.tokenizer("the paper", add_special_tokens=False)["input_ids"] * 7)[:7])
    rows = encoded(base)
    read = [dataclasses.replace(row, prompt=ids + row.prompt) for row in rows]
    expected = logits_of_base(base, read)
    torch.testing.assert_close(logits(adapted, rows), expected, atol=2e-4, rtol=1e-4)
