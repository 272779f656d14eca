"""Tuning of the last layers, the norms or the biases."""

import re
from pathlib import Path

import pytest
from method_helpers import TinyModel

from support.tiny_bases import load_tiny
from tiny import ARCHITECTURES, write_tokenizer
from tuneoff.errors import UserError
from tuneoff.methods import build


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_bitfit_refuses_a_model_without_biases(architecture: str, tiny_model: TinyModel) -> None:
    with pytest.raises(UserError, match="has no biases to tune; use ln_tuning or ia3"):
        build("bitfit", {}).adapt(load_tiny(tiny_model(architecture)), [], 0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_last_layers_are_the_top_blocks_and_the_final_norm(architecture: str, tiny_model: TinyModel) -> None:
    base = load_tiny(tiny_model(architecture))
    adapted = build("last_layers", {"num_layers": 1}).adapt(base, [], 0)
    names = list(adapted.state())
    blocks = [name for name in names if ".1." in name]
    norms = [name for name in names if ".1." not in name]
    assert len(blocks) >= 8
    assert norms
    assert all("norm" in name or "ln_f" in name for name in norms)
    with pytest.raises(UserError, match="has 2 blocks"):
        build("last_layers", {"num_layers": 3}).adapt(base, [], 0)


def test_dropout_of_blocks_that_learn_is_on(tiny_model: TinyModel) -> None:
    base = load_tiny(tiny_model("gpt2"))
    adapted = build("last_layers", {"num_layers": 1}).adapt(base, [], 0)
    adapted.train_mode(True)
    below, top = base.model.transformer.h
    assert not any(module.training for module in below.modules())
    assert all(module.training for module in top.modules())
    assert not base.model.transformer.drop.training
    adapted.train_mode(False)
    assert not any(module.training for module in base.model.modules())


@pytest.mark.parametrize("family", ["Bloom", "OPT"])
def test_the_final_norm_is_tuned_but_no_other_norm_beside_the_blocks(family: str, tmp_path: Path) -> None:
    """BLOOM has a norm of the embeddings too; OPT names its final norm before the blocks."""
    import transformers

    size = {"vocab_size": 400, "hidden_size": 32, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    if family == "Bloom":
        config = transformers.BloomConfig(**size, n_layer=3, n_head=4)
    else:
        config = transformers.OPTConfig(
            **size, num_hidden_layers=3, num_attention_heads=4, ffn_dim=64, word_embed_proj_dim=32
        )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    adapted = build("last_layers", {"num_layers": 1}).adapt(load_tiny(tmp_path), [], 0)
    outside = {name.split(".")[-2] for name in adapted.state() if not re.search(r"\.(h|layers)\.", name)}
    assert outside == {"ln_f" if family == "Bloom" else "final_layer_norm"}
    assert all(".2." in name for name in adapted.state() if re.search(r"\.(h|layers)\.", name))
