"""GGUF files: transformers' own reader, which is another program's, finds the same model in them."""

import re
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from tuneoff.errors import UserError
from tuneoff.export.gguf_model import NUMBER_TYPES, NumberType, check_architecture, write_gguf
from tuneoff.export.gguf_vocabulary import read_vocabulary

IDS = torch.tensor([[5, 6, 7, 8, 300, 12, 40]])


def written(folder: Path, path: Path, numbers: NumberType) -> transformers.PreTrainedModel:
    """The model in `folder`, after it was written to `path`."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    vocabulary = read_vocabulary(tokenizer, model.get_input_embeddings().num_embeddings, frozenset({0}))
    write_gguf(model, vocabulary, path, numbers, name="tiny", context=512)
    return model


def logits(model: transformers.PreTrainedModel) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits
    return found


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize(("numbers", "tolerance"), [("f32", 1e-4), ("q8_0", 0.05)])
def test_transformers_reads_the_same_model(
    architecture: str, numbers: NumberType, tolerance: float, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    model = written(tiny_model(architecture), tmp_path / "tiny.gguf", numbers)
    positions = {"n_positions": 512} if architecture == "gpt2" else {}  # which that reader does not take from the file
    read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf", dtype=torch.float32, **positions)
    expected = logits(model)
    assert (logits(read) - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.parametrize("numbers", NUMBER_TYPES)
def test_matrices_have_the_wanted_type_and_vectors_are_f32(
    numbers: NumberType, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    written(tiny_model("gpt2"), tmp_path / "tiny.gguf", numbers)
    types = {tensor.name: tensor.tensor_type.name.lower() for tensor in gguf.GGUFReader(tmp_path / "tiny.gguf").tensors}
    assert types["blk.0.attn_qkv.weight"] == numbers
    assert types["token_embd.weight"] == numbers
    assert {types[name] for name in ("blk.0.attn_norm.weight", "blk.1.ffn_up.bias", "position_embd.weight")} == {"f32"}


def test_the_tokenizer_in_the_file_splits_texts_as_the_model_was_trained(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tiny_model("llama")
    written(folder, tmp_path / "tiny.gguf", "f16")
    fields = gguf.GGUFReader(tmp_path / "tiny.gguf").fields
    assert fields["tokenizer.ggml.pre"].contents() == "gpt-2"
    assert fields["tokenizer.ggml.add_bos_token"].contents() is False
    assert fields["tokenizer.ggml.eos_token_id"].contents() == 0
    text = "We show that the method of 2026 is new.\n\nÜber 'll <x>"
    read = AutoTokenizer.from_pretrained(tmp_path, gguf_file="tiny.gguf")
    own = AutoTokenizer.from_pretrained(folder)
    assert read(text, add_special_tokens=False)["input_ids"] == own(text, add_special_tokens=False)["input_ids"]


def test_frequencies_of_llama_3_are_those_of_transformers(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    model = AutoModelForCausalLM.from_pretrained(tiny_model("llama"), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama"))
    plain = model.model.rotary_emb.inv_freq.double().numpy()
    model.config.rope_parameters = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    write_gguf(
        model, read_vocabulary(tokenizer, 400, frozenset({0})), tmp_path / "x.gguf", "f32", name="x", context=512
    )
    [factors] = [
        tensor.data for tensor in gguf.GGUFReader(tmp_path / "x.gguf").tensors if tensor.name == "rope_freqs.weight"
    ]
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](model.config, torch.device("cpu"))
    np.testing.assert_allclose(plain / factors, scaled.double().numpy(), rtol=1e-5)
    assert len(set(np.round(factors, 3))) > 2


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("gpt_neo", "llama.cpp has no models of the kind gpt_neo; use --to merged"),
        ("gemma3_text", "--to merged, and if"),
    ],
)
def test_other_architectures_are_refused_with_the_nearest_alternative(kind: str, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        check_architecture({"model_type": kind})


@pytest.mark.parametrize(
    ("architecture", "setting", "value", "words"),
    [
        ("llama", "hidden_act", "gelu", "the activation gelu"),
        ("qwen2", "rope_parameters", {"rope_type": "yarn", "rope_theta": 1.0}, "positions of the kind yarn"),
        # src/models/qwen2.cpp of llama.cpp 0c1e570 asks for other tensors, and does not load such a file.
        ("qwen2", "rope_parameters", {"rope_type": "llama3", "rope_theta": 1.0}, "positions of the kind llama3"),
        ("qwen2", "head_dim", 16, "heads of width 16"),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True, "another scale"),
    ],
)
def test_settings_that_llama_cpp_does_not_have_are_refused(
    architecture: str, setting: str, value: object, words: str, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tiny_model(architecture)
    model = AutoModelForCausalLM.from_pretrained(folder)
    vocabulary = read_vocabulary(AutoTokenizer.from_pretrained(folder), 400, frozenset())
    setattr(model.config, setting, value)
    with pytest.raises(UserError, match=words):
        write_gguf(model, vocabulary, tmp_path / "x.gguf", "f16", name="x", context=512)
    assert not (tmp_path / "x.gguf").exists()
