"""Prefix tuning: trained keys and values before the prompt."""

import dataclasses
from pathlib import Path

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


ROPE: dict[str, dict[str, object]] = {
    "longrope": {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "factor": 4.0},
    "dynamic": {"factor": 2.0},
}


@pytest.mark.parametrize("kind", ROPE)
def test_prefix_tuning_refuses_frequencies_that_depend_on_the_length(
    kind: str, tiny_model: TinyModel, tmp_path: Path
) -> None:
    """Also in a run of an earlier version, which trained it."""
    base = load_tiny(tiny_model("llama"))
    build("prefix_tuning", {"num_virtual_tokens": 3}).adapt(base, [], 0).save(tmp_path)
    base.model.config.rope_parameters = {"rope_type": kind, "rope_theta": 10_000.0, **ROPE[kind]}
    method = build("prefix_tuning", {"num_virtual_tokens": 3})
    said = r"prefix_tuning: LlamaForCausalLM has rotary frequencies that depend on the length .*; use soft_prompt"
    with pytest.raises(UserError, match=said):
        method.adapt(base, [], 0)
    with pytest.raises(UserError, match=said):
        method.restore(base, tmp_path)


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
