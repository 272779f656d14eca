"""GGUF files with changed bytes are converted or refused in one sentence, and nothing of them is left."""

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tuneoff.errors import UserError
from tuneoff.model_folder import gguf_architecture
from tuneoff.model_weights import BrokenWeights, dequantize_gguf

_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_PARTS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(folder: Path, path: Path) -> None:
    """Write the tiny llama of `folder` as a GGUF file."""
    from gguf import GGUFWriter
    from safetensors.numpy import load_file

    tokens = json.loads((folder / "tokenizer.json").read_text())["model"]
    vocabulary = sorted(tokens["vocab"], key=tokens["vocab"].get)
    vocabulary += [f"<unused {number}>" for number in range(len(vocabulary), 400)]
    writer = GGUFWriter(path, "llama")
    for name, value in {
        "context_length": 512,
        "embedding_length": 32,
        "block_count": 2,
        "feed_forward_length": 64,
        "head_count": 4,
        "head_count_kv": 2,
        "layer_norm_rms_eps": 1e-6,
        "rope_dimension_count": 8,
        "vocab_size": len(vocabulary),
        "tokenizer_model": "gpt2",
        "token_list": vocabulary,
        "token_types": [1] * len(vocabulary),
        "token_merges": [" ".join(pair) for pair in tokens["merges"]],
        "bos_token_id": 0,
        "eos_token_id": 0,
    }.items():
        getattr(writer, f"add_{name}")(value)
    for name, tensor in load_file(folder / "model.safetensors").items():
        stem = name.removesuffix(".weight")
        if stem not in _NAMES:
            _, _, layer, part = stem.split(".", 3)
            writer.add_tensor(f"blk.{layer}.{_PARTS[part]}.weight", tensor)
        else:
            writer.add_tensor(f"{_NAMES[stem]}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def changed(data: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, most often in what describes the weights."""
    new, head = bytearray(data), len(data) // 3
    if draw.random() < 0.1:
        return bytes(new[: draw.randrange(len(new))])
    for _ in range(draw.choice((1, 1, 4, 30))):
        new[draw.randrange(head if draw.random() < 0.8 else len(new))] = draw.randrange(256)
    return bytes(new)


def test_a_changed_gguf_file_is_converted_or_refused(
    full: bool, seed: int, tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    whole, path = tmp_path / "whole.gguf", tmp_path / "changed.gguf"
    write_gguf(tiny_model("llama"), whole)
    assert (dequantize_gguf(whole) / "model.safetensors").is_file()
    data, outcomes = whole.read_bytes(), Counter[str]()
    for trial in range(1000 if full else 1):
        path.write_bytes(changed(data, random.Random(trial + seed)))
        for read in (gguf_architecture, dequantize_gguf):
            refused: UserError | None = None
            try:
                read(path)
            except UserError as error:
                refused = error
            assert refused is None or isinstance(refused, BrokenWeights) or str(path) in str(refused), refused
            assert refused is None or "\n" not in str(refused), refused
            outcomes[f"{read.__name__}: {'read' if refused is None else 'refused'}"] += 1
        print(trial + 1, dict(outcomes), flush=True)
    assert not list((tmp_path / "cache" / "models").glob(".*"))
