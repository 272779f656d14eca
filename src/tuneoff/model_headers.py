"""What settings and names of weights already say about a model, before its code is loaded. Imports no torch.

Every function answers only what is certain: None or an empty answer leaves the question to the model's code.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuneoff.model_files import MOST_VOCABULARY_BYTES
from tuneoff.model_folder import ModelFolder
from tuneoff.regular_files import read_limited

# Names of the input embedding in the families of transformers.
_EMBEDDINGS = ("embed_tokens", "wte", "embed_in", "word_embeddings")
# Layers that may share the weight of the embedding, which is stored once.
_HEADS = frozenset({"lm_head", "embed_out", "output", "head"})
# Kinds of models whose weights have the same names in files as in transformers' code, which renames or joins others.
PLAIN_KINDS = frozenset(
    "bloom cohere cohere2 falcon gemma gemma2 gemma3_text gpt2 gpt_bigcode gpt_neo gpt_neox gptj granite helium llama "
    "mistral mpt nemotron olmo olmo2 olmo3 opt phi phi3 qwen2 qwen3 smollm3 stablelm starcoder2 xglm".split()
)
_INDEX = re.compile(r"(?:^|(?<=\.))(\d+)\.")


def positions(folder: ModelFolder) -> int | None:
    """Tokens that the model has positions for, if its settings give one number."""
    settings: Mapping[str, Any] = folder.config
    inner = settings.get("text_config")
    given = [settings.get(key) for key in ("max_position_embeddings", "n_positions")]
    if isinstance(inner, dict) or None not in given:
        return None
    return next((value for value in given if isinstance(value, int) and value > 0), None)


def embedding_rows(folder: ModelFolder) -> int | None:
    """Rows of the input embedding, if one weight has its name."""
    if not _is_plain(folder):
        return None
    found = {
        tensor.shape[0]
        for name, tensor in folder.tensors.items()
        if len(tensor.shape) == 2 and name.split(".")[-2:][0] in _EMBEDDINGS and name.endswith(".weight")
    }
    return found.pop() if len(found) == 1 else None


def vocabulary_size(folder: Path) -> int | None:
    """Tokens in `tokenizer.json`, without those that were added; None without such a file."""
    try:
        vocabulary = json.loads(read_limited(folder / "tokenizer.json", MOST_VOCABULARY_BYTES))["model"]["vocab"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None  # transformers names the fault
    return len(vocabulary) if isinstance(vocabulary, dict | list) else None


def layers_without(folder: ModelFolder, target: str) -> list[str]:
    """The names of the layers with a matrix, if certainly none of the layers is named `target`; else nothing."""
    names = [name.removesuffix(".weight") for name in folder.tensors if name.endswith(".weight")]
    is_there = any(name == target or name.endswith(f".{target}") for name in names)
    if is_there or target in _HEADS or not _is_plain(folder):
        return []
    return sorted({name.rsplit(".", 1)[-1] for name in names if len(folder.tensors[f"{name}.weight"].shape) > 1})


def most_blocks(folder: ModelFolder) -> int | None:
    """The length of the longest list of modules; the blocks are not more. None if that is not known."""
    if not _is_plain(folder):
        return None
    numbers = (int(found[1]) for name in folder.tensors for found in _INDEX.finditer(name))
    return max((number + 1 for number in numbers), default=None)


def has_no_bias(folder: ModelFolder) -> bool:
    """Whether the model certainly has no bias."""
    return _is_plain(folder) and not any(name.endswith(".bias") for name in folder.tensors)


def _is_plain(folder: ModelFolder) -> bool:
    return folder.config.get("model_type") in PLAIN_KINDS and "auto_map" not in folder.config
