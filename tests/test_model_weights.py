"""Loading exactly the weights that are in a folder, and converting other forms of a model to it."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tuneoff import model_weights, models
from tuneoff.errors import UserError
from tuneoff.model_weights import dequantize_gguf, discard_damaged_copies, read_weights, written_by_libraries


@pytest.fixture
def folder(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    copy = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), copy)
    return copy


def change(folder: Path, **tensors: torch.Tensor | None) -> None:
    """Add tensors to the file of weights, or remove them (None)."""
    state = {**load_file(folder / "model.safetensors"), **tensors}
    kept = {name: tensor for name, tensor in state.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("skeleton", [False, True])
def test_weights_that_the_model_would_not_use_are_refused(folder: Path, skeleton: bool) -> None:
    """Biases of a Llama whose settings say that it has none: it would compute something else than what was saved."""
    change(folder, **{"model.layers.0.self_attn.q_proj.bias": torch.ones(32)})
    with pytest.raises(UserError, match=r"would not use 1 weight of the files .*q_proj\.bias"):
        read_weights(folder, torch.float32, skeleton=skeleton)


@pytest.mark.parametrize("skeleton", [False, True])
def test_weights_that_are_missing_are_refused(folder: Path, skeleton: bool) -> None:
    change(folder, **{"model.layers.1.mlp.up_proj.weight": None})
    with pytest.raises(UserError, match=r"lacks 1 weight of a LlamaForCausalLM .*up_proj"):
        read_weights(folder, torch.float32, skeleton=skeleton)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module."])
def test_weights_of_a_wrapped_model_are_named_as_such(folder: Path, prefix: str) -> None:
    state = {prefix + name: tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"begin with '{prefix}', .*save the model inside the wrapper"):
        read_weights(folder, torch.float32)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(folder: Path, value: float) -> None:
    damaged = torch.ones(32)
    damaged[3] = value
    change(folder, **{"model.norm.weight": damaged})
    with pytest.raises(UserError, match=r"NaN or infinite values in 1 of its tensors \(first: model\.norm\.weight"):
        read_weights(folder, torch.float32)


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.rotary_emb.inv_freq", "v_head.summary.weight"])
def test_what_has_no_effect_may_be_there(folder: Path, name: str) -> None:
    change(folder, **{name: torch.ones(4)})
    assert read_weights(folder, torch.float32).dtype is torch.float32


def test_an_architecture_that_transformers_does_not_know(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "llama9"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"does not know the architecture llama9; update it with"):
        read_weights(folder, torch.float32, skeleton=True)


def gguf_file(path: Path, architecture: str) -> Path:
    """A GGUF file without tensors."""
    from gguf import GGUFWriter

    writer = GGUFWriter(path, architecture)
    writer.add_array("general.tags", ["a", "b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_settings_that_would_change_the_kind_of_outputs_have_no_effect(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"return_dict": False}))
    assert read_weights(folder, torch.float32)(torch.tensor([[1, 2]])).logits.ndim == 3


def test_gguf_files_that_cannot_be_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    unknown = gguf_file(tmp_path / "unknown.gguf", "rwkv7")
    with pytest.raises(UserError, match=r"architecture rwkv7\); give the model that it was made from"):
        dequantize_gguf(unknown)
    short = tmp_path / "short.gguf"
    short.write_bytes(gguf_file(tmp_path / "llama.gguf", "llama").read_bytes()[:-8])
    with pytest.raises(UserError, match=r"short\.gguf: damaged or truncated .*; download it again"):
        dequantize_gguf(short)


def test_garbage_in_a_gguf_file_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\x00" * 64)
    with pytest.raises(UserError, match=r"bad\.gguf: version 0 of GGUF, and 2 or 3 is read; convert"):
        dequantize_gguf(tmp_path / "bad.gguf")
    assert not list((tmp_path / "cache" / "tuneoff" / "models").glob("*"))


@pytest.mark.parametrize("damage", [b"", b"weightS", b"weights and more", None])
def test_a_damaged_copy_in_the_cache_is_removed_said_and_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes | None
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    target = tmp_path / "tuneoff" / "models" / "tiny"
    calls = []

    def convert(folder: Path) -> None:
        calls.append(folder)
        (folder / "model.safetensors").write_bytes(b"weights")

    for _ in range(2):
        assert model_weights._converted(target, convert) == target
    assert len(calls) == 1
    assert list(discard_damaged_copies()) == []
    for say in (False, True):
        if damage is None:
            (target / "model.safetensors").unlink()
        else:
            (target / "model.safetensors").write_bytes(damage)
        if say:
            [line] = discard_damaged_copies()
            assert line == f"{target}: the converted model in the cache was damaged; it is made again"
            assert not target.exists()
        assert (model_weights._converted(target, convert) / "model.safetensors").read_bytes() == b"weights"
    assert len(calls) == 3


@pytest.mark.real
@pytest.mark.skipif(
    models.starter_file() is None and "CI" not in os.environ, reason="the starter model is not installed"
)
def test_starter_is_dequantized_once() -> None:
    gguf = models.starter_file()
    assert gguf is not None
    folder = dequantize_gguf(gguf)
    written = (folder / "model.safetensors").stat().st_mtime_ns
    assert dequantize_gguf(gguf) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == written
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["hidden_size"] == 576
    assert config["model_type"] == "llama"


@pytest.mark.parametrize("links", [True, False])
def test_what_lies_beside_a_gguf_file_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    """The tokenizer of another model would be taken in place of the file's own, and an adapter would be applied."""

    def refuse(*_: object) -> None:
        raise OSError("a required privilege is not held")

    if not links:
        monkeypatch.setattr(Path, "symlink_to", refuse)
    downloads, written = tmp_path / "downloads", tmp_path / "written"
    for folder in (downloads, written):
        folder.mkdir()
    for name in ("model.gguf", "tokenizer.json", "adapter_config.json"):
        (downloads / name).write_text(name)
    seen: list[list[str]] = []

    def read(folder: str, *, gguf_file: str, **_settings: object) -> None:
        assert (Path(folder) / gguf_file).read_text() == "model.gguf"
        seen.append(sorted(path.name for path in Path(folder).iterdir()))
        if len(seen) == 2:
            raise ValueError("enough")

    for kind in (AutoTokenizer, AutoModelForCausalLM):
        monkeypatch.setattr(kind, "from_pretrained", read)
    with pytest.raises(UserError, match="enough"):
        model_weights._convert_gguf(downloads / "model.gguf", "llama", written)
    assert seen == [["model.gguf"]] * 2
    assert not list(written.iterdir())


def test_what_a_library_raises_while_it_writes_is_one_sentence() -> None:
    words = r"^--to gguf: this model or its tokenizer cannot be written \(argument out of range\); give another --model"
    with pytest.raises(UserError, match=words), written_by_libraries("--to gguf"):
        raise struct.error("argument out of range")
    for other in (OSError(28, "full"), MemoryError("x"), UserError("x"), RuntimeError("can't allocate memory: x")):
        with pytest.raises(type(other)) as caught, written_by_libraries("--to gguf"):
            raise other
        assert caught.value is other
