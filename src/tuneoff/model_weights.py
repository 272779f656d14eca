"""Loads weights of a model folder with every check that the libraries leave to their log; converts other forms to it.

A model is used only if the files have exactly the weights that its architecture has.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.adapter_settings import adds_layers, check_effort
from tuneoff.auto_tokenizer import load_auto_tokenizer
from tuneoff.cache import cache_folder
from tuneoff.confined import LimitReached, ProcessLimits, call_confined
from tuneoff.errors import UserError
from tuneoff.model_folder import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    cached_file_digest,
    gguf_architecture,
    read_adapter_settings,
    read_header,
)
from tuneoff.results.failures import is_out_of_memory
from tuneoff.results.json_files import write_text_atomic
from tuneoff.results.manifest import (
    MANIFEST,
    CoveredFolder,
    Manifest,
    entry_of_file,
    fault_of,
    manifest_text,
)
from tuneoff.results.run_dir import settle_files
from tuneoff.saved_tensors import saving
from tuneoff.text import plural

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Tensors that a file may have beyond those of the model: masks and frequencies that the code makes itself now, and
# heads beside the one that predicts the next token.
WITHOUT_EFFECT = re.compile(
    r"(^|\.)(attn\.(masked_)?bias|attention\.(masked_)?bias|rotary_emb\.inv_freq|position_ids|v_head\..+|mtp\..+)$"
)
# What the conversion of a GGUF file may take: blocks of two bits become sixteen times as large, and there are copies.
_LEAST_GGUF_MEMORY_BYTES, _MOST_GGUF_GROWTH = 8 * 10**9, 50
_LEAST_GGUF_SECONDS, _SLOWEST_GGUF_BYTES_PER_SECOND = 120, 1_000_000


class BrokenWeights(UserError):
    """The files hold weights that are not finite."""


def read_weights(
    folder: Path,
    dtype: torch.dtype | None,
    *,
    trust_remote_code: bool = False,
    model_class: type[PreTrainedModel] | None = None,
    skeleton: bool = False,
) -> PreTrainedModel:
    """Load a causal language model from safetensors. `model_class`: that of transformers' auto class by default.

    With `skeleton`, only headers are read, and the parameters are on torch's meta device.

    Raises:
        UserError: It cannot be loaded, or its files lack weights, have weights that it would not use, or have some that
            are not finite.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    loader: Any = model_class or AutoModelForCausalLM
    where = {"device_map": "meta"} if skeleton else {}
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model, loaded = loader.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
                **where,
            )
        except MemoryError:
            raise
        except (RuntimeError, SafetensorError) as error:
            if "allocate" in str(error):  # memory of this machine, no fault of the files
                raise
            raise _not_loaded(folder, "settings and weights do not fit together") from error
        except Exception as error:  # settings of any type reach the code of any architecture
            raise _not_loaded(folder, first_error_line(error)) from error
    model.config.return_dict = True  # a file that says otherwise would make outputs tuples
    name = type(model).__name__
    missing = sorted(loaded["missing_keys"])
    if missing and (prefix := _prefix_of(missing, loaded["unexpected_keys"])):
        raise UserError(
            f"{folder}: the names of its weights begin with {prefix!r}, as those of a wrapped model do (torch.compile, "
            "DataParallel); save the model inside the wrapper with save_pretrained"
        )
    if missing:
        raise UserError(
            f"{folder}: lacks {plural(len(missing), 'weight')} of a {name} (first: {missing[0]}), which would be "
            "random; give a checkpoint of the whole language model with its head"
        )
    unused = sorted(key for key in loaded["unexpected_keys"] if not WITHOUT_EFFECT.search(key))
    if unused:
        raise UserError(
            f"{folder}: a {name} would not use {plural(len(unused), 'weight')} of the files (first: {unused[0]}), so "
            "it is not the model that was saved; give a checkpoint of a causal language model"
        )
    loaded_model: PreTrainedModel = model
    if damaged := _not_finite(loaded_model):
        raise BrokenWeights(not_finite(folder, damaged))
    return loaded_model


def not_finite(place: Path, damaged: Sequence[str]) -> str:
    """The message for a file or folder with the `damaged` tensors."""
    return (
        f"{place}: NaN or infinite values in {len(damaged)} of its tensors (first: {damaged[0]}), as after a training "
        "that diverged; give an earlier checkpoint"
    )


def _prefix_of(missing: Sequence[str], unexpected: Collection[str]) -> str | None:
    """The prefix that the names of all missing weights have in the files; None if they are not there."""
    found = next((name for name in unexpected if name.endswith("." + missing[0])), None)
    prefix = "" if found is None else found.removesuffix(missing[0])
    return prefix if prefix and all(prefix + name in unexpected for name in missing) else None


def _not_finite(model: PreTrainedModel) -> list[str]:
    import torch

    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.is_floating_point() and not parameter.is_meta and not bool(torch.isfinite(parameter).all())
    ]


def _not_loaded(folder: Path, reason: str) -> UserError:
    import transformers

    if "does not recognize this architecture" in reason:
        kind = re.search(r"model type `?([\w.-]+)", reason)
        named = f" {kind[1]}" if kind else ""
        return UserError(
            f"{folder}: the installed transformers {transformers.__version__} does not know the architecture{named}; "
            "update it with `pip install -U transformers`, or give another --model"
        )
    if reason.startswith("Unrecognized configuration class"):
        reason = "transformers has no class of this architecture that predicts the next token"
    return UserError(f"{folder}: not a causal language model that can be loaded ({reason}); give another --model")


def first_error_line(error: BaseException) -> str:
    """The first line of an error's message, shortened, or its kind if it has none."""
    return str(error).strip().split("\n", 1)[0][:200] or type(error).__name__


@contextlib.contextmanager
def written_by_libraries(what: str) -> Iterator[None]:
    """Raise `UserError` for what libraries raise while they write a model or a tokenizer: its settings may be anything.

    A full disk and a lack of memory are raised as they are. `what` begins the message.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (UserError, OSError, MemoryError, SafetensorError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"{what}: this model or its tokenizer cannot be written ({first_error_line(error)}); give another --model"
        ) from error


def dequantize_gguf(gguf: Path) -> Path:
    """Convert a GGUF file to fp32 safetensors in the cache folder, once. Returns the folder.

    The values of every block format (scale x integer + offset, in fp16) are exact in fp32. The readers trust every
    number of the file, so they work in a process of its own. Raises `UserError` for a file that cannot be converted.
    """

    def convert(folder: Path) -> None:
        import torch
        import transformers  # noqa: F401 - imported once, not in each process

        architecture = gguf_architecture(gguf)

        def work() -> bytes:
            torch.set_num_threads(1)  # a fork has none of the threads that this process may have started
            _convert_gguf(gguf, architecture, folder)
            return b""

        size = gguf.stat().st_size
        seconds = _LEAST_GGUF_SECONDS + size // _SLOWEST_GGUF_BYTES_PER_SECOND
        memory = _LEAST_GGUF_MEMORY_BYTES + _MOST_GGUF_GROWTH * size
        try:
            call_confined(work, ProcessLimits(memory, seconds, 300 + 10 * seconds, 10_000))
        except LimitReached as error:
            raise UserError(f"{gguf}: damaged or truncated: it {error}; download it again") from error

    return _converted(_dequantized_path(gguf), convert)


def _convert_gguf(gguf: Path, architecture: str, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # The GGUF reader always shows its own progress bar. It would also read tokenizers and adapters beside the file.
    with (
        quiet_transformers(),
        contextlib.redirect_stderr(io.StringIO()),
        tempfile.TemporaryDirectory(dir=folder, prefix=".alone-") as alone,
    ):
        link = Path(alone) / gguf.name
        try:
            link.symlink_to(gguf.absolute())
        except OSError:  # Windows asks for a right, and some file systems have no links
            shutil.copyfile(gguf, link)
        try:
            tokenizer = AutoTokenizer.from_pretrained(alone, gguf_file=gguf.name)
            model = AutoModelForCausalLM.from_pretrained(alone, gguf_file=gguf.name, dtype=torch.float32)
        except MemoryError:
            raise
        except Exception as error:  # a damaged file causes errors of any type
            reason = first_error_line(error)
            if "not supported" in reason:
                raise UserError(
                    f"{gguf}: transformers reads no GGUF file of this kind (architecture {architecture}); give the "
                    "model that it was made from, with safetensors"
                ) from error
            raise UserError(f"{gguf}: damaged or truncated ({reason}); download it again") from error
        with written_by_libraries(str(gguf)):
            _without_quantizer(model).save_pretrained(folder)
            tokenizer.save_pretrained(folder)


def dequantized(gguf: Path) -> Path | None:
    """The folder of `dequantize_gguf` if it is there already."""
    target = _dequantized_path(gguf)
    return target if _is_complete(target) else None


def _dequantized_path(gguf: Path) -> Path:
    # Copies that were made with what lay beside the file have a name without the last word.
    return cache_folder() / "models" / f"{gguf.stem}-{cached_file_digest(gguf)[:16]}-alone"


def merge_adapter(adapter: Path, base: Path, digest: str) -> Path:
    """Merge a PEFT adapter into its base (a folder with safetensors), in fp32 in the cache folder, once.

    Returns the folder. `digest` is that of both contents.
    """

    def convert(folder: Path) -> None:
        import torch

        model = read_weights(base, torch.float32)
        model.requires_grad_(False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                adapted = load_adapter(model, adapter)
                if adapts_shared_weight(adapted.get_base_model()):
                    raise UserError(
                        f"{adapter}: adapts the embeddings or the head, which are one tensor in {base}, so it cannot "
                        "be merged; give the base as --model"
                    )
                merged = adapted.merge_and_unload()
            except (ValueError, RuntimeError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
                raise UserError(
                    f"{adapter}: this PEFT adapter cannot be merged into its base ({first_error_line(error)}); give "
                    "the base as --model"
                ) from error
            with quiet_transformers(), written_by_libraries(str(adapter)):
                merged.save_pretrained(folder)
                _tokenizer_of(adapter, base).save_pretrained(folder)

    return _converted(cache_folder() / "models" / f"{adapter.name}-{digest}", convert)


def _tokenizer_of(adapter: Path, base: Path) -> PreTrainedTokenizerBase:
    folder = adapter if (adapter / "tokenizer_config.json").is_file() else base
    try:
        return load_auto_tokenizer(folder, trust_remote_code=False)
    except (MemoryError, UserError):
        raise
    except Exception as error:  # the files may hold anything, and transformers trusts their types
        raise UserError(
            f"{folder}: no tokenizer that transformers can read ({first_error_line(error)}); give the base as --model"
        ) from error


def load_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """The model with the layers of a PEFT adapter in it, in the dtype of the model.

    Raises `UserError` unless the adapter's file has exactly the weights of the adapter in the model, and for settings
    that load more than that file or are beyond reason; and what PEFT raises.
    """
    from peft import PeftModel

    settings = read_adapter_settings(folder)
    stored = sum(tensor.numel for tensor in read_header(folder / ADAPTER_WEIGHTS).values())
    if not adds_layers(settings):  # virtual tokens are loaded elsewhere, and their number is not that of the file
        raise UserError(f"{folder / ADAPTER_CONFIG}: not an adapter of layers, as this one should be; copy it again")
    check_effort(folder / ADAPTER_CONFIG, settings, stored, model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns of missing weights, which are an error below
        adapted: PeftModel = PeftModel.from_pretrained(model, str(folder), autocast_adapter_dtype=False)
        found = adapted.load_adapter(str(folder), adapter_name="default", autocast_adapter_dtype=False)
    for names, what in ((found.missing_keys, "missing"), (found.unexpected_keys, "of no use in this model")):
        if names:
            raise UserError(
                f"{folder / ADAPTER_WEIGHTS}: {plural(len(names), 'weight')} {what} (first: {sorted(names)[0]}); use "
                "the base model that was tuned, or copy the adapter again"
            )
    return adapted


def adapts_shared_weight(model: PreTrainedModel) -> bool:
    """Whether PEFT adapts the embeddings or the head of a model in which both are one tensor.

    Merging would add what was trained for one of them to the other.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    pair: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    weights = [getattr(getattr(one, "base_layer", one), "weight", None) for one in pair]
    adapted = any(isinstance(one, BaseTunerLayer) for one in pair)
    return adapted and weights[0] is not None and weights[0] is weights[1]


def _converted(target: Path, convert: Callable[[Path], None]) -> Path:
    """`target`, written by `convert` unless it is there already and whole."""
    if _is_complete(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        with saving(target):
            convert(temporary)
        files = {path.relative_to(temporary).as_posix(): entry_of_file(path) for path in settle_files(temporary)}
        write_text_atomic(temporary / MANIFEST, manifest_text(Manifest(files=files)))
        if not _is_complete(target):  # damaged, or of an earlier version, without digests
            shutil.rmtree(target, ignore_errors=True)
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another process was first
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _is_complete(folder: Path) -> bool:
    """Whether every file of a converted model is the one that was written: its digest is taken if it was touched."""
    try:
        files = CoveredFolder(folder).files
    except UserError:
        return False
    whole = all(fault_of(folder / name, entry, thorough=False) is None for name, entry in files.items())
    return bool(files) and whole


def damaged_copies() -> Iterator[Path]:
    """The folders of converted models in the cache that are damaged."""
    for folder in sorted((cache_folder() / "models").glob("[!.]*")):
        if (folder / MANIFEST).exists() and not _is_complete(folder):
            yield folder


def discard_damaged_copies() -> Iterator[str]:
    """Remove converted models from the cache that are damaged, one sentence each: they are made again when needed."""
    for folder in damaged_copies():
        shutil.rmtree(folder, ignore_errors=True)
        yield f"{folder}: the converted model in the cache was damaged; it is made again"


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
