"""Loads the tokenizer of a folder as transformers' AutoTokenizer does, without torch from the second time on.

AutoTokenizer imports torch only to find the class, which takes seconds. The class is therefore remembered, for the same
files and versions, if it alone makes the same tokenizer.

The files may be a stranger's: rules that replace, split or merge text can be made to need any time and memory. They are
therefore tried in a process of its own first, once for the same files and versions.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.cache import cache_key, file_digest, read_answer, write_answer
from tuneoff.confined import LimitReached, ProcessLimits, call_confined
from tuneoff.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_KIND, _TRIED_KIND = "checks", "tried"
_PACKAGES = ("transformers", "tokenizers", "sentencepiece", "tiktoken", "mistral-common")
_SUFFIXES = frozenset({".json", ".model", ".txt", ".jinja", ".tiktoken", ".spm", ".bpe", ".codes"})
_CLASSES = "transformers."  # from no other package, whatever a damaged cache says
# A vocabulary of 250,000 tokens takes a second and half a gigabyte.
_LIMITS = ProcessLimits(memory_bytes=4 * 10**9, cpu_seconds=60, wall_seconds=300, result_bytes=1000)
_LETTERS = "".join(map(chr, range(0x20, 0x250)))
# Every letter once, in long runs and in words: what a rule has to match before it can do harm.
_TRIED_TEXT = (
    f"{_LETTERS}\n\t{''.join(letter * 100 for letter in _LETTERS)}!{' '.join([_LETTERS.lower()] * 5)}"
    # one letter of each script that many people write, a sign and an emoji
    + "".join(
        letter * 100
        for letter in "\u03b1\u044f\u0561\u05d0\u0639\u0905\u0995\u0e01\u10d0\uac00\u3042\u30a2\u4e2d\u20ac\U0001f600"
    )
)
_TEMPLATE_NAME = re.compile(r"[^./\\:\x00-\x1f][^/\\:\x00-\x1f]{0,99}")  # each is saved as a file
_MOST_TRIGGERS = 100_000  # characters
_BACKEND = "_tokenizer"  # attribute that holds the object of the `tokenizers` library


def load_auto_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """What `AutoTokenizer.from_pretrained` returns, with its errors.

    Raises `UserError` for a tokenizer that needs far more time or memory than any that people use, and for a chat
    template whose name is a path: it becomes the name of a file.
    """
    tokenizer = _load(folder, trust_remote_code=trust_remote_code)
    templates = getattr(tokenizer, "chat_template", None)
    for name in templates if isinstance(templates, dict) else ():
        if not _TEMPLATE_NAME.fullmatch(str(name)):
            raise UserError(
                f"{folder}: a chat template with the name {str(name)[:60]!r}, which is a path or a hidden file; give "
                "the template a plain name"
            )
    return tokenizer


def _load(folder: Path, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    key = None if trust_remote_code else _key(folder)
    if key is not None:
        _try(folder, key)
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


def _try(folder: Path, key: str) -> None:
    """Load the tokenizer and tokenize a text in a process of its own, unless that went well before."""
    passed = cache_key(tokenizer=key, text=_TRIED_TEXT)
    if read_answer(_TRIED_KIND, passed) is not None:
        return
    import torch  # noqa: F401 - imported once, not in each process
    from transformers import AutoTokenizer

    def work() -> bytes:
        with contextlib.suppress(Exception):  # this process says what is wrong
            AutoTokenizer.from_pretrained(folder)(_TRIED_TEXT + _triggers(folder))
        return b""

    try:
        call_confined(work, _LIMITS)
    except LimitReached as error:
        raise UserError(f"{folder}: its tokenizer {error}, so it cannot be trusted; give another --model") from error
    write_answer(_TRIED_KIND, passed, {})


def _triggers(folder: Path) -> str:
    """What rules of `tokenizer.json` look for, where it is written out: each may make a text much longer."""
    try:
        rules = json.loads((folder / "tokenizer.json").read_bytes())
        waiting: list[object] = [rules.get("normalizer"), rules.get("pre_tokenizer")]
    except (OSError, ValueError, RecursionError, AttributeError):  # none, or one that no tokenizer is made from
        return ""
    found: list[str] = []
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            found.append(one * 20)
        elif isinstance(one, dict | list):
            waiting.extend(one.values() if isinstance(one, dict) else one)
    return " ".join(found)[:_MOST_TRIGGERS]


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
