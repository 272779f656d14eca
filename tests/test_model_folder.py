"""What is wrong with the files of a model folder, said before a library is asked. Needs no torch."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuneoff.cache import file_digest
from tuneoff.errors import UserError
from tuneoff.model_folder import (
    Tensor,
    cached_file_digest,
    gguf_architecture,
    inspect_folder,
    is_adapter,
    read_adapter_config,
    read_header,
)

CONFIG = {"model_type": "llama"}
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


def write_safetensors(path: Path, *names: str) -> None:
    """A file with a float for each name."""
    header = json.dumps(
        {name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * at, 4 * at + 4]} for at, name in enumerate(names)}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4 * len(names)))


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_json(tmp_path / "config.json", CONFIG)
    write_safetensors(tmp_path / "model.safetensors", "lm_head.weight", "norm.weight")
    return tmp_path


def test_a_sound_folder(folder: Path) -> None:
    found = inspect_folder(folder)
    assert found.tensors == {"lm_head.weight": Tensor("F32", (1,)), "norm.weight": Tensor("F32", (1,))}
    assert (found.parameters, found.bytes, found.config) == (2, 8, CONFIG)


def settings(**more: Any) -> Callable[[Path], None]:
    return lambda folder: write_json(folder / "config.json", CONFIG | more)


def linked_settings(folder: Path) -> None:
    """Sound settings, but of another folder."""
    path = folder / "config.json"
    path.symlink_to(path.rename(folder.parent / f"{folder.name}-config.json"))


def shards(folder: Path) -> None:
    """Two shards; the second is not there."""
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    files = {"lm_head.weight": "model-1.safetensors", "norm.weight": "model-2.safetensors"}
    write_json(folder / "model.safetensors.index.json", {"weight_map": files})


def incomplete_shard(folder: Path) -> None:
    shards(folder)
    write_safetensors(folder / "model-2.safetensors", "other.weight")


def outside_shard(folder: Path) -> None:
    shards(folder)
    write_json(folder / "model.safetensors.index.json", {"weight_map": {"norm.weight": "../../secret.safetensors"}})


def pickle_shard(folder: Path) -> None:
    """A file that is both: a safetensors header in front, and behind it a zip archive, which torch reads."""
    shards(folder)
    (folder / "model-1.safetensors").rename(folder / "model-1.bin")
    write_json(folder / "model.safetensors.index.json", {"weight_map": {"norm.weight": "model-1.bin"}})


def described(shape: list[int], start: int, end: int) -> Callable[[Path], object]:
    """A file whose second tensor is as given; the first has the bytes 0 to 4."""
    entries = {"a": ([1], [0, 4]), "b": (shape, [start, end])}
    header = {name: {"dtype": "F32", "shape": one, "data_offsets": place} for name, (one, place) in entries.items()}
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + bytes(64)
    return lambda folder: (folder / "model.safetensors").write_bytes(content)


def two_sets(folder: Path) -> None:
    shards(folder)
    write_safetensors(folder / "model.safetensors", "lm_head.weight")


def without_config(name: str, content: str = "{}") -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "config.json").unlink()
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)

    return damage


def only_weights(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "model.safetensors").rename(folder / name)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder of a model": (without_config("a.txt"), r"no config\.json there, so it is not a model folder; give"),
    "diffusers": (without_config("model_index.json"), r"a diffusers pipeline.*; give a causal language model"),
    "folder of gguf": (without_config("a.gguf"), r"a folder of GGUF files; name one of them: --model .*a\.gguf"),
    "original format": (without_config("params.json"), r"weights in their authors' own format; give the repository"),
    "folder above": (without_config("checkpoint-5/config.json"), r"in a folder inside; name that: --model .*point-5"),
    "config is lfs": (lambda folder: (folder / "config.json").write_text(POINTER), r"Git LFS pointer.*git lfs pull"),
    "config no json": (lambda folder: (folder / "config.json").write_text("{"), r"not valid JSON; download"),
    "config latin-1": (lambda folder: (folder / "config.json").write_bytes(b'{"a": "\xe4"}'), r"not valid JSON"),
    "config of another folder": (linked_settings, r"config\.json: a link to .*, outside of the model's folder; copy"),
    "config list": (lambda folder: (folder / "config.json").write_text("[]"), r"not a JSON object; download"),
    "generation list": (
        lambda folder: write_json(folder / "generation_config.json", []),
        r"generation_config\.json: not a JSON object; download",
    ),
    "no type": (lambda folder: write_json(folder / "config.json", {}), r"names no `model_type`; give a model"),
    "odd type": (settings(model_type=5), r"its `model_type` is not a text; download"),
    "code": (settings(auto_map={}), r"`auto_map` would run code.*; add --trust-remote-code"),
    "encoder-decoder": (settings(model_type="bart"), r"an encoder-decoder \(bart\), whose encoder.*; give a causal"),
    "by its settings": (settings(is_encoder_decoder=True), r"an encoder-decoder \(llama\)"),
    "sentences": (lambda folder: write_json(folder / "modules.json", []), r"a sentence-transformers model.*; give"),
    "gptq": (settings(quantization_config={"quant_method": "gptq", "bits": 4}), r"\(GPTQ, 4 bits\).*; give the model"),
    "bnb": (settings(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}), r"bytes, 4 bits"),
    "mlx": (settings(quantization={"bits": 8}), r"quantized \(MLX, 8 bits\)"),
    "awq by names": (
        lambda folder: write_safetensors(folder / "model.safetensors", "q_proj.qweight"),
        r"quantized \(GPTQ or AWQ\).*; give the model that it was made from",
    ),
    "lfs": (lambda folder: (folder / "model.safetensors").write_text(POINTER), r"Git LFS pointer instead.*lfs pull"),
    "empty": (lambda folder: (folder / "model.safetensors").write_bytes(b""), r"damaged at its beginning; download"),
    "a web page": (lambda folder: (folder / "model.safetensors").write_text("<!DOCTYPE html>"), r"not a safetensors"),
    "truncated": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-3]),
        r"model\.safetensors: truncated, \d+ bytes of \d+ bytes are there; download it again",
    ),
    "zeros": (lambda folder: (folder / "model.safetensors").write_bytes(bytes(99)), r"its header is damaged; download"),
    "overlapping": (described([1], 2, 6), r"model\.safetensors: its header is damaged .at b.; download"),
    "shape of 2^62": (described([2**31, 2**31], 4, 8), r"its header is damaged \(at b\); download"),
    "negative shape": (described([-1, -1], 4, 8), r"its header is damaged \(at b\); download"),
    "pickle behind the index": (pickle_shard, r"index\.json: names model-1\.bin, which is not a safetensors file"),
    "a billion layers": (
        settings(num_hidden_layers=10**9),
        r"`num_hidden_layers` is 1,000,000,000, but its files hold",
    ),
    "layers of a part": (settings(text_config={"n_layers": 600}), r"`n_layers` is 600, but its files hold 2 tensors"),
    "a huge vocabulary": (settings(vocab_size=10**12), r"`vocab_size` is a number beyond reason; download"),
    "other weights": (
        settings(text_config={"transformers_weights": "../evil.index.json"}),
        r"`transformers_weights` names other files than model\.safetensors.*; give the files these names",
    ),
    "public key": (settings(attn_implementation="evil/kernel"), r"`attn_implementation` would run code"),
    "experts": (settings(experts_implementation="evil/kernel"), r"`experts_implementation` would run code"),
    "of a part": (settings(text_config={"_attn_implementation": "evil/kernel"}), r"`_attn_implementation` would run"),
    "of each part": (settings(attn_implementation={"": "evil/kernel"}), r"`attn_implementation` would run code"),
    "shard missing": (shards, r"1 of 2 files of weights missing \(model-2\.safetensors\); download the model again"),
    "shard incomplete": (incomplete_shard, r"model-2\.safetensors: lacks 1 weight that .*\(norm\.weight\); download"),
    "shard outside": (outside_shard, r"names a file outside the folder"),
    "two sets": (two_sets, r"holds both model\.safetensors and model\.safetensors\.index\.json; move one"),
    "another name": (only_weights("weights.safetensors"), r"its weights are in weights\.safetensors, and .*; download"),
    "pickle": (only_weights("pytorch_model.bin"), r"its weights are a pickle, which can run code .*; give a model"),
    "pth": (only_weights("consolidated.00.pth"), r"its weights are a pickle"),
    "tensorflow": (only_weights("tf_model.h5"), r"in the format of TensorFlow; give"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), r"no weights in safetensors; give"),
    "adapter beside": (
        lambda folder: write_json(folder / "adapter_config.json", {}),
        r"holds a whole model and beside it adapter_config\.json, an adapter .*; move adapter_config\.json",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_says_what_to_do(folder: Path, name: str) -> None:
    damage, message = BROKEN[name]
    damage(folder)
    with pytest.raises(UserError, match=message) as caught:
        inspect_folder(folder)
    text = str(caught.value)
    assert str(folder) in text
    assert "\n" not in text
    assert ";" in text, "the way out follows a semicolon"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"[]", "damaged"),
        (b'{"a": 1}', "damaged"),
        (b'{"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}}', "damaged"),
        (b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": []}}', "damaged"),
        (b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1e400]}}', "damaged"),
        (b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 999999]}}', r"truncated, \d+ bytes of 1\.0 MB"),
    ],
)
def test_headers_that_were_tampered_with(tmp_path: Path, header: bytes, message: str) -> None:
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(UserError, match=message):
        read_header(tmp_path / "a")


def test_a_decoder_that_was_cut_out_of_an_encoder_decoder(folder: Path) -> None:
    settings(model_type="bart", is_encoder_decoder=False)(folder)
    assert inspect_folder(folder).config["model_type"] == "bart"


def adapter_folder(folder: Path, **config: object) -> Path:
    (folder / "config.json").unlink()
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    write_json(folder / "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "a/base"} | config)
    return folder


def test_an_adapter_names_its_base(folder: Path) -> None:
    assert not is_adapter(folder)
    adapter = adapter_folder(folder, revision="v2")
    assert is_adapter(adapter)
    found = read_adapter_config(adapter)
    assert (found.kind, found.base.name, found.base.revision) == ("LORA", "a/base", "v2")


def test_adapters_that_cannot_be_used(folder: Path) -> None:
    adapter = adapter_folder(folder, peft_type="PROMPT_TUNING")
    with pytest.raises(UserError, match=r"of the kind PROMPT_TUNING.*give the base as --model: a/base"):
        read_adapter_config(adapter)
    write_json(adapter / "adapter_config.json", {"peft_type": "LORA"})
    with pytest.raises(UserError, match="does not name the model"):
        read_adapter_config(adapter)
    write_json(adapter / "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "a/base"})
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"without adapter_model\.safetensors; give that model"):
        read_adapter_config(adapter)


HEADER = b"GGUF" + struct.pack("<IQQ", 3, 0, 2)


def gguf_entry(key: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value


def test_the_architecture_of_a_gguf_file_follows_values_of_every_kind(tmp_path: Path) -> None:
    numbers = gguf_entry(b"numbers", 9, struct.pack("<IQ", 5, 2) + bytes(8))
    texts = gguf_entry(b"texts", 9, struct.pack("<IQ", 8, 1) + struct.pack("<Q", 2) + b"ab")
    named = gguf_entry(b"general.architecture", 8, struct.pack("<Q", 5) + b"llama")
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 4) + numbers + texts + gguf_entry(b"n", 10, bytes(8)) + named)
    assert gguf_architecture(path) == "llama"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK", "not a GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"GGUF", "damaged or truncated at its beginning; download it again"),
        (HEADER + b"\xff" * 40, "damaged or truncated at its beginning"),
        (HEADER + gguf_entry(b"a", 9, struct.pack("<IQ", 8, 2**60)), "damaged or truncated at its beginning"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "does not name its architecture"),
    ],
)
def test_files_that_are_no_gguf_file(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(UserError, match=said):
        gguf_architecture(tmp_path / "a.gguf")


def test_a_digest_that_was_kept_for_another_file_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    files = [tmp_path / "one", tmp_path / "other"]
    for file in files:
        file.write_text(file.name)
    digests = [cached_file_digest(file) for file in files]
    one, other = sorted((tmp_path / "cache" / "hashes").iterdir())
    contents = one.read_text(), other.read_text()
    one.write_text(contents[1])
    other.write_text(contents[0])
    assert [cached_file_digest(file) for file in files] == digests == [file_digest(file) for file in files]
    one.write_bytes(b"\xff\xfe garbage")
    assert [cached_file_digest(file) for file in files] == digests
