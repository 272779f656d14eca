"""What the files of a model folder say, read without loading a weight: settings, headers of safetensors, adapters.

`inspect_folder` raises one `UserError` for a folder that cannot be used, whatever a library would say about it later.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tuneoff.adapter_settings import loads_more
from tuneoff.cache import cache_key, file_digest, file_state_path
from tuneoff.errors import UserError
from tuneoff.model_files import (
    MOST_SETTINGS_BYTES,
    MOST_VOCABULARY_BYTES,
    check_files,
    check_sizes,
    code_in_settings,
    names_weights,
)
from tuneoff.regular_files import open_regular, read_limited
from tuneoff.spec import ModelSpec
from tuneoff.text import plural

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
SINGLE_FILE, INDEX_FILE = "model.safetensors", "model.safetensors.index.json"
CAUSAL_LM_WANTED = "give a causal language model, such as SmolLM2, Qwen or Llama"
# Kinds of PEFT's adapters that can be merged into a model whatever their settings.
MERGEABLE = frozenset({"LORA", "IA3", "ADALORA", "LOHA", "LOKR", "OFT", "BOFT", "HRA", "VERA", "FOURIERFT"})
_LFS_POINTER = b"version https://git-lfs"
_PICKLES = ("*.bin", "*.pth", "*.pt", "*.ckpt")
_OTHER_FRAMEWORKS = {"*.h5": "TensorFlow", "*.msgpack": "Flax", "*.onnx": "ONNX"}
# The format of safetensors limits a header to this size.
_MAX_HEADER_BYTES = 100_000_000
_DTYPE_BITS = {"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16}
_GGUF_VERSIONS = (2, 3)
_GGUF_TEXT, _GGUF_LIST = 8, 9  # numbers of kinds of values in GGUF
_GGUF_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # sizes of the other kinds
_SHOWN = 3  # names in a message
_ENCODER_DECODERS = frozenset(
    "bart bigbird_pegasus blenderbot blenderbot-small encoder-decoder fsmt led longt5 m2m_100 marian mbart mt5 mvp "
    "nllb-moe pegasus pegasus_x plbart prophetnet switch_transformers t5 t5gemma umt5 whisper".split()
)
# Endings of names that only quantized weights have.
_QUANTIZED_NAMES = {
    ".qweight": "GPTQ or AWQ",
    ".qzeros": "GPTQ or AWQ",
    ".absmax": "bitsandbytes",
    ".quant_map": "bitsandbytes",
    ".SCB": "bitsandbytes",
    ".weight_scale_inv": "fp8",
    ".weight_packed": "compressed-tensors",
}
_METHOD_NAMES = {"gptq": "GPTQ", "awq": "AWQ", "bitsandbytes": "bitsandbytes"}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a safetensors file, as its header describes it."""

    dtype: str  # as safetensors writes it: F32, BF16 ...
    shape: tuple[int, ...]
    start: int = field(default=0, compare=False)  # byte of the file at which its values begin

    @property
    def numel(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def bytes(self) -> int:
        """Its size in the file."""
        return self.numel * _DTYPE_BITS.get(self.dtype, 8) // 8

    def fills(self, size: int) -> bool:
        """Whether a tensor of this shape has `size` bytes; of a dtype that is not known, any number."""
        return min(self.shape, default=0) >= 0 and (self.bytes == size or self.dtype not in _DTYPE_BITS)


@dataclass(frozen=True)
class ModelFolder:
    """A folder whose files fit together: its settings and its tensors by name."""

    path: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @property
    def parameters(self) -> int:
        """Elements of all tensors. A tensor that is tied to another one is stored once."""
        return sum(tensor.numel for tensor in self.tensors.values())

    @property
    def bytes(self) -> int:
        """Size of all tensors."""
        return sum(tensor.bytes for tensor in self.tensors.values())


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter and no whole model."""
    return (folder / ADAPTER_CONFIG).is_file() and not _weight_files(folder)


@dataclass(frozen=True)
class AdapterConfig:
    """What `adapter_config.json` says: the kind of a PEFT adapter and the model that it belongs to."""

    kind: str
    base: ModelSpec


def read_adapter_config(folder: Path) -> AdapterConfig:
    """Raises `UserError` for an adapter that cannot be merged into weights or does not name its base."""
    path = folder / ADAPTER_CONFIG
    config = read_adapter_settings(folder)
    kind, base, revision = (config.get(key) for key in ("peft_type", "base_model_name_or_path", "revision"))
    if not isinstance(base, str) or not base:
        raise UserError(f"{path}: does not name the model that this adapter belongs to; merge it into that model first")
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise UserError(f"{folder}: a PEFT adapter of {base} without {ADAPTER_WEIGHTS}; give that model as --model")
    read_header(folder / ADAPTER_WEIGHTS)
    if not isinstance(kind, str) or kind not in MERGEABLE:
        raise UserError(
            f"{folder}: a PEFT adapter of the kind {kind}, which cannot become a part of the weights of its base; "
            f"give the base as --model: {base}"
        )
    return AdapterConfig(kind, ModelSpec(name=base, revision=revision if isinstance(revision, str) else None))


def read_adapter_settings(folder: Path) -> Mapping[str, Any]:
    """The settings of an adapter. Raises `UserError` if its files are not plain files or its settings name code."""
    check_files(folder)
    path = folder / ADAPTER_CONFIG
    config = read_json_object(path)
    if (key := loads_more(config)) is not None:
        raise UserError(
            f"{path}: `{key}` names code, a pickle or another model to load; merge the adapter where you trust its "
            "author"
        )
    return config


def inspect_folder(folder: Path, *, trust_remote_code: bool = False) -> ModelFolder:
    """The settings and tensors of a model folder.

    Raises `UserError` for a folder without a model, a model that would run code, files that do not fit together, and a
    kind of model that cannot be tuned here.
    """
    check_files(folder)
    config = _read_config(folder)
    with contextlib.suppress(FileNotFoundError):
        read_json_object(folder / "generation_config.json")  # transformers says nothing of the file
    _check_kind(folder, config)
    if not trust_remote_code and (key := code_in_settings(config)) is not None:
        raise UserError(
            f"{folder / 'config.json'}: `{key}` would run code that comes with the model; "
            "add --trust-remote-code if you trust its author"
        )
    if names_weights(config):
        raise UserError(
            f"{folder / 'config.json'}: `transformers_weights` names other files than {SINGLE_FILE} and {INDEX_FILE}; "
            "give the files these names, and remove that line"
        )
    if (method := _quantization(config)) is not None:
        raise _quantized(folder, method)
    tensors = _read_tensors(folder)
    for name in tensors:
        for ending, method in _QUANTIZED_NAMES.items():
            if name.endswith(ending):
                raise _quantized(folder, method)
    if (folder / ADAPTER_CONFIG).is_file():
        raise UserError(
            f"{folder}: holds a whole model and beside it {ADAPTER_CONFIG}, an adapter that loading would apply to it "
            f"(a second time, if it is merged); move {ADAPTER_CONFIG} and {ADAPTER_WEIGHTS} to another folder"
        )
    check_sizes(folder / "config.json", config, len(tensors))
    return ModelFolder(folder, config, tensors)


def read_json_object(path: Path) -> Mapping[str, Any]:
    """A JSON file of a model. Raises `UserError` for anything else than one object, `FileNotFoundError` without it."""
    content = read_limited(path, MOST_VOCABULARY_BYTES if path.name == INDEX_FILE else MOST_SETTINGS_BYTES)
    if content.startswith(_LFS_POINTER):
        raise _lfs_pointer(path)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON; download the model again") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: not a JSON object; download the model again")
    return found


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, from its header. Raises `UserError` for a damaged or truncated file."""
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        first = stream.read(len(_LFS_POINTER))
        if first == _LFS_POINTER:
            raise _lfs_pointer(path)
        stream.seek(0)
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else _MAX_HEADER_BYTES + 1
        if length > min(_MAX_HEADER_BYTES, size - 8):
            raise UserError(f"{path}: not a safetensors file, or damaged at its beginning; download it again")
        header = stream.read(length)
    try:
        described = json.loads(header)
        tensors, places = {}, []
        for name, entry in described.items():
            if name != "__metadata__":
                start, end = (int(number) for number in entry["data_offsets"])
                shape = tuple(int(number) for number in entry["shape"])
                tensors[name] = Tensor(str(entry["dtype"]), shape, 8 + length + start)
                places.append((start, end, name))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OverflowError) as error:
        raise UserError(f"{path}: its header is damaged; download it again") from error
    whole = 8 + length + max((end for _, end, _ in places), default=0)
    if size < whole:
        raise UserError(f"{path}: truncated, {_megabytes(size)} of {_megabytes(whole)} are there; download it again")
    before = 0
    for start, end, name in sorted(places):
        if start < before or not tensors[name].fills(end - start):
            raise UserError(f"{path}: its header is damaged (at {name}); download it again")
        before = end
    return tensors


def gguf_architecture(path: Path) -> str:
    """`general.architecture` of a GGUF file. Raises `UserError` for another file and for a damaged or truncated one."""
    with open_regular(path) as stream:
        if (first := stream.read(len(_LFS_POINTER))) == _LFS_POINTER:
            raise _lfs_pointer(path)
        if not first.startswith(b"GGUF"):
            raise UserError(f"{path}: not a GGUF file, whatever its name says; download it again")
        stream.seek(4)
        try:
            version, _, entries = struct.unpack("<IQQ", stream.read(20))
            if version not in _GGUF_VERSIONS:
                raise UserError(f"{path}: version {version} of GGUF, and 2 or 3 is read; convert the model again")
            for _ in range(entries):
                key, kind = _gguf_text(stream), _gguf_number(stream, "I")
                if key == "general.architecture" and kind == _GGUF_TEXT:
                    return _gguf_text(stream)
                _skip_gguf_value(stream, kind)
                if stream.tell() > _MAX_HEADER_BYTES:
                    raise EOFError
        except (struct.error, KeyError, EOFError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: damaged or truncated at its beginning; download it again") from error
    raise UserError(f"{path}: does not name its architecture; download it again")


def _gguf_number(stream: BinaryIO, code: str) -> int:
    found: int = struct.unpack(f"<{code}", stream.read(struct.calcsize(f"<{code}")))[0]
    return found


def _gguf_text(stream: BinaryIO) -> str:
    length = _gguf_number(stream, "Q")
    # A list may claim any number of empty texts, which a large file of zeros would hold.
    if length > _MAX_HEADER_BYTES or stream.tell() > _MAX_HEADER_BYTES or len(content := stream.read(length)) < length:
        raise EOFError
    return content.decode("utf-8")


def _skip_gguf_value(stream: BinaryIO, kind: int) -> None:
    if kind == _GGUF_TEXT:
        _gguf_text(stream)
    elif kind == _GGUF_LIST:
        kind, length = _gguf_number(stream, "I"), _gguf_number(stream, "Q")
        if kind in _GGUF_BYTES:
            stream.seek(min(length * _GGUF_BYTES[kind], _MAX_HEADER_BYTES), 1)
        elif kind == _GGUF_TEXT:
            for _ in range(length):
                _gguf_text(stream)
        else:
            raise KeyError(kind)  # no file has lists in lists
    else:
        stream.seek(_GGUF_BYTES[kind], 1)


def _read_config(folder: Path) -> Mapping[str, Any]:
    try:
        return read_json_object(folder / "config.json")
    except FileNotFoundError as error:
        raise UserError(f"{folder}: {_without_config(folder)}") from error
    except OSError as error:
        raise UserError(f"{folder / 'config.json'}: cannot be read ({error.strerror}); give another --model") from error


def _without_config(folder: Path) -> str:
    """What a folder without `config.json` is, and the way out."""
    if (folder / "model_index.json").is_file():
        return f"a diffusers pipeline, which makes pictures; {CAUSAL_LM_WANTED}"
    if ggufs := sorted(folder.glob("*.gguf")):
        return f"a folder of GGUF files; name one of them: --model {ggufs[0]}"
    if (folder / "params.json").is_file():
        return "weights in their authors' own format; give the repository whose name ends in -hf, with config.json"
    inner = sorted(path.parent for pattern in ("*/config.json", "*/*/config.json") for path in folder.glob(pattern))
    if inner:
        return f"no config.json there, but in a folder inside; name that: --model {inner[-1]}"
    return "no config.json there, so it is not a model folder; give another --model"


def _check_kind(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse models other than causal language models, by their settings."""
    if (folder / "modules.json").is_file():
        raise UserError(
            f"{folder}: a sentence-transformers model, which turns texts into vectors and writes none; "
            f"{CAUSAL_LM_WANTED}"
        )
    kind = config.get("model_type")
    if kind is None:
        raise UserError(f"{folder / 'config.json'}: names no `model_type`; give a model in transformers' format")
    if not isinstance(kind, str):
        raise UserError(f"{folder / 'config.json'}: its `model_type` is not a text; download the model again")
    of_encoder_decoder = config.get("is_encoder_decoder", kind in _ENCODER_DECODERS)
    if of_encoder_decoder and of_encoder_decoder != "false":
        raise UserError(
            f"{folder}: an encoder-decoder ({kind}), whose encoder would be left out here; {CAUSAL_LM_WANTED}"
        )


def _quantization(config: Mapping[str, Any]) -> str | None:
    """How weights are quantized according to the settings."""
    settings = config.get("quantization_config")
    if isinstance(settings, dict):
        method = str(settings.get("quant_method", "quantized"))
        bits = settings.get("bits") or (4 if settings.get("load_in_4bit") else None)
        return _METHOD_NAMES.get(method, method) + (f", {bits} bits" if isinstance(bits, int) else "")
    settings = config.get("quantization")
    if isinstance(settings, dict):
        return f"MLX, {settings.get('bits', '?')} bits"
    return None


def _quantized(folder: Path, method: str) -> UserError:
    return UserError(
        f"{folder}: its weights are quantized ({method}), and methods need them unquantized; give the model that it "
        "was made from"
    )


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a whole model in a folder."""
    return sorted(path for path in folder.glob("*.safetensors") if path.name != ADAPTER_WEIGHTS)


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of the files that transformers would read."""
    single, index = folder / SINGLE_FILE, folder / INDEX_FILE
    if single.exists():
        if index.exists():
            raise UserError(f"{folder}: holds both {SINGLE_FILE} and {INDEX_FILE}; move one of the two sets of weights")
        return read_header(single)
    if not index.exists():
        raise UserError(f"{folder}: {_without_weights(folder)}")
    listed = read_json_object(index).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
        raise UserError(f"{index}: has no `weight_map`; download the model again")
    shards = sorted(set(listed.values()))
    if any(Path(name).name != name for name in shards):
        raise UserError(f"{index}: names a file outside the folder; download the model from its author")
    if other := [name for name in shards if not name.endswith(".safetensors")]:
        raise UserError(
            f"{index}: names {other[0]}, which is not a safetensors file (pickles can run code and are never read); "
            "download the model from its author"
        )
    if missing := [name for name in shards if not (folder / name).exists()]:
        raise UserError(
            f"{folder}: {len(missing)} of {len(shards)} files of weights missing ({_some(missing)}); download the "
            "model again"
        )
    tensors: dict[str, Tensor] = {}
    for name in shards:
        header = read_header(folder / name)
        absent = sorted(key for key, file in listed.items() if file == name and key not in header)
        if absent:
            raise UserError(
                f"{folder / name}: lacks {plural(len(absent), 'weight')} that {INDEX_FILE} lists ({_some(absent)}); "
                "download the model again"
            )
        tensors |= header
    return tensors


def _without_weights(folder: Path) -> str:
    """What a folder without weights in safetensors holds instead, and the way out."""
    if others := _weight_files(folder):
        return (
            f"its weights are in {others[0].name}, and {SINGLE_FILE} or {INDEX_FILE} was expected; download the "
            "complete folder, or rename a single file"
        )
    if any(any(folder.glob(pattern)) for pattern in _PICKLES):
        return (
            "its weights are a pickle, which can run code (pickles are neither read nor downloaded); give a model "
            "with safetensors, or convert it where you trust it: load it with transformers and call save_pretrained"
        )
    for pattern, framework in _OTHER_FRAMEWORKS.items():
        if any(folder.glob(pattern)):
            return f"its weights are in the format of {framework}; give a model with safetensors"
    return "no weights in safetensors; give a model with safetensors, or download this one completely"


def _lfs_pointer(path: Path) -> UserError:
    return UserError(
        f"{path}: a Git LFS pointer instead of the file; run `git lfs install && git lfs pull` in {path.parent}"
    )


def _some(names: Sequence[str] | Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (" ..." if len(names) > _SHOWN else "")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{size} bytes"


def files_of_weights(folder: Path) -> list[Path]:
    """The files of a sound model folder that transformers would read its weights from."""
    if (folder / SINGLE_FILE).exists():
        return [folder / SINGLE_FILE]
    return [folder / name for name in sorted(set(read_json_object(folder / INDEX_FILE)["weight_map"].values()))]


def cached_file_digest(file: Path) -> str:
    """SHA-256 of a file's bytes, cached by path, size and modification time."""
    cache_file = file_state_path("hashes", file)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        digest, _, check = cache_file.read_text().partition(" ")
        if check == _check_of(cache_file, digest):  # a damaged one, or another file's, would make the model another one
            return digest
    digest = file_digest(file)
    with contextlib.suppress(OSError):  # a cache folder that cannot be written only costs time
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        cache_file.write_text(f"{digest} {_check_of(cache_file, digest)}")
    return digest


def _check_of(cache_file: Path, digest: str) -> str:
    return cache_key(file=cache_file.name, digest=digest)
