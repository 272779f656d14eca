"""What a model folder may hold, whoever made it: regular files of bounded size, and links that stay inside."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tuneoff.errors import UserError
from tuneoff.regular_files import check_regular

# Files that tuneoff or transformers reads as text. Weights are checked by their headers, and may be links.
_TEXTS = frozenset({".json", ".txt", ".jinja", ".model", ".spm", ".tiktoken", ".bpe", ".codes", ".py"})
_WEIGHTS = ".safetensors"
_LARGE_TEXTS = re.compile(r"tokenizer|vocab|merges|tekken|spm|sentencepiece|\.index\.json$|\.model$")
MOST_SETTINGS_BYTES, MOST_VOCABULARY_BYTES = 16_000_000, 500_000_000
# Functions of transformers itself. Any other name is a package or a repository with code.
_OWN = frozenset({"eager", "sdpa", "grouped_mm", "batched_mm"})
_IMPLEMENTATION_KEY = re.compile(r"_?(attn|experts)_implementation(_internal)?")
_LAYERS = re.compile(r"(n|num)_(\w+_)?(layers?|blocks?)|(encoder|decoder)_layers|block_count|depth")
_MOST_LAYERS_ALWAYS = 512  # takes a second; layers may share their tensors
_LARGEST_NUMBER = 10**11


def check_files(folder: Path) -> None:
    """Raise `UserError` for a file of a model that is a pipe, a device or too large, or a link that leads outside.

    The links of a snapshot in the cache of Hugging Face lead to the blobs of the same model.
    """
    root = folder.resolve()
    inside = [root, root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [root]
    for path in _read_files(folder):
        try:
            status = check_regular(path)
        except OSError as error:
            raise UserError(f"{path}: a file that cannot be read ({error.strerror}); remove it") from error
        if path.suffix == _WEIGHTS:
            continue
        target = path.resolve()
        if not any(target.is_relative_to(place) for place in inside):
            raise UserError(f"{path}: a link to {target}, outside of the model's folder; copy the file into the folder")
        most = MOST_VOCABULARY_BYTES if _LARGE_TEXTS.search(path.name) else MOST_SETTINGS_BYTES
        if status.st_size > most:
            raise UserError(
                f"{path}: {status.st_size / 1e6:,.0f} MB, and such a file has at most {most / 1e6:,.0f}; "
                "download the model again"
            )


def _read_files(folder: Path) -> Iterator[Path]:
    for place in (folder, folder / "additional_chat_templates"):
        if place.is_dir():
            for path in sorted(place.iterdir()):
                if path.suffix in _TEXTS or path.suffix == _WEIGHTS:
                    yield path


def code_in_settings(config: Mapping[str, Any]) -> str | None:
    """The first key of a model's settings that would run code which does not belong to transformers; None without."""
    for key, value in _entries(config):
        if key == "auto_map":
            return key
        if _IMPLEMENTATION_KEY.fullmatch(key) and not all(_is_own(name) for name in _names(value)):
            return key
    return None


def _names(value: object) -> list[object]:
    return list(value.values()) if isinstance(value, dict) else [value]


def _is_own(name: object) -> bool:
    return name is None or isinstance(name, bool) or (isinstance(name, str) and name in _OWN)


def names_weights(config: Mapping[str, Any]) -> bool:
    """Whether the settings of a model name the files of its weights: transformers reads those, whatever they are."""
    return any(key == "transformers_weights" for key, _ in _entries(config))


def check_sizes(path: Path, config: Mapping[str, Any], tensors: int) -> None:
    """Raise `UserError` for settings that ask for more layers than there are tensors, or for numbers beyond reason.

    Building such a model would take all memory or never end.
    """
    for key, value in _entries(config):
        if isinstance(value, bool) or not isinstance(value, int):
            continue
        if _LAYERS.fullmatch(key) and value > max(tensors, _MOST_LAYERS_ALWAYS):
            raise UserError(
                f"{path}: `{key}` is {value:,}, but its files hold {tensors:,} tensors; download the model again"
            )
        if abs(value) > _LARGEST_NUMBER and "position" not in key and "len" not in key:
            raise UserError(f"{path}: `{key}` is a number beyond reason; download the model again")


def _entries(value: object) -> Iterator[tuple[str, object]]:
    """All keys and values, also of tables inside."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from one.items()
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
