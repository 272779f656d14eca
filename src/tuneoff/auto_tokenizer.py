"""Loads the tokenizer of a folder as transformers' AutoTokenizer does, without torch from the second time on.

AutoTokenizer imports torch only to find the class, which takes seconds. The class is therefore remembered, for the same
files and versions, if it alone makes the same tokenizer.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.cache import cache_key, file_digest, read_answer, write_answer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_KIND = "checks"
_PACKAGES = ("transformers", "tokenizers", "sentencepiece", "tiktoken", "mistral-common")
_SUFFIXES = frozenset({".json", ".model", ".txt", ".jinja", ".tiktoken", ".spm", ".bpe", ".codes"})
_CLASSES = "transformers."  # from no other package, whatever a damaged cache says
_BACKEND = "_tokenizer"  # attribute that holds the object of the `tokenizers` library


def load_auto_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """What `AutoTokenizer.from_pretrained` returns, with its errors."""
    key = None if trust_remote_code else _key(folder)
    known = None if key is None else read_answer(_KIND, key)
    if known is not None and str(known.get("module")).startswith(_CLASSES):
        found: PreTrainedTokenizerBase = getattr(import_module(known["module"]), known["class"]).from_pretrained(folder)
        return found
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    kind = type(tokenizer)
    if key is not None and kind.__module__.startswith(_CLASSES) and _is_same(tokenizer, kind.from_pretrained(folder)):
        write_answer(_KIND, key, {"module": kind.__module__, "class": kind.__name__})
    return tokenizer


def _is_same(tokenizer: Any, other: Any) -> bool:
    """Whether two tokenizers of a class have the same state. Only those of the `tokenizers` library can be compared."""
    state, others = vars(tokenizer), vars(other)
    return (
        _BACKEND in state
        and {name: value for name, value in state.items() if name != _BACKEND}
        == {name: value for name, value in others.items() if name != _BACKEND}
        and bool(state[_BACKEND].to_str() == others[_BACKEND].to_str())
    )


def _key(folder: Path) -> str:
    """The path counts too: transformers derives the class of some models from the name of their folder."""
    versions = {}
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    found = [*folder.iterdir(), *folder.glob("additional_chat_templates/*")]
    files = {str(path.relative_to(folder)): file_digest(path) for path in sorted(found) if path.suffix in _SUFFIXES}
    return cache_key(tokenizer=str(folder.absolute()), files=files, versions=versions)
