"""Writes a suggested study as TOML with comments: each setting with the reason for it."""

import json
import os
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tuneoff.spec import DataSpec, StudySpec
from tuneoff.spec.run import paths_of
from tuneoff.study.data_checks import columns_line
from tuneoff.study.data_facts import fact_lines
from tuneoff.study.suggestion import Suggestion
from tuneoff.text import sanitize

_WIDTH = 116
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SECTIONS = ("data", "prompt", "train", "generate", "score")
_IN_NAMES = "hyperparameters"  # of rows, whose names say them
# Written even where they have their defaults: what people change first.
_ALWAYS = {
    "study": ("name", "models", "methods", "seeds", "trials"),
    "prompt": ("instruction", "max_length"),
    "train": ("epochs", "batch_size"),
    "generate": ("max_new_tokens",),
}


def draft(suggestion: Suggestion, file: Path, description: str, outlook: Iterable[str]) -> str:
    """The text of the study file `file`, which `tuneoff compare` takes as it is.

    Paths are written relative to the folder of the file. `outlook`: what limited times could detect, in sentences.
    """
    study = suggestion.study
    lines = [
        *_comment(f"A suggestion by `tuneoff init`. Read it, change it, then run: tuneoff compare {file.name}"),
        *_comment("`tuneoff compare --help` explains every setting; `--dry-run` prints the plan and trains nothing."),
        "#",
        *_comment(f"Data: {description}"),
        *_comment(f"Columns: {columns_line(suggestion.columns) or 'not known'}"),
    ]
    for fact in (*suggestion.cleaning, *fact_lines(suggestion.facts)):
        lines += _comment(f"- {fact}")
    for index, line in enumerate(outlook):
        if index == 0:
            heading = (
                "What limited times can detect on this machine, as busy as it was; tuneoff shrinks the study to them:"
            )
            lines += ["#", *_comment(heading)]
        lines += _comment(f"- {line}")
    lines.append("")
    lines += _settings("study", study, suggestion.why, {"models": [_model(study, file)]})
    for name, reason in suggestion.left_out.items():
        lines += _comment(f"{name} is left out: {reason}")
    for section in _SECTIONS:
        value: BaseModel = getattr(study, section)
        paths = _paths(study.data, file) if section == "data" else {}
        if body := list(_settings(section, value, suggestion.why, paths)):
            lines += ["", f"[{section}]", *body]
    return "\n".join(lines) + "\n"


def _settings(section: str, value: BaseModel, why: Mapping[str, str], instead: Mapping[str, Any]) -> Iterator[str]:
    """The settings of a section that matter; `instead` has other values for some of them."""
    plain = value.model_dump(mode="json")
    for key, field in type(value).model_fields.items():
        default = field.get_default(call_default_factory=True)
        if (
            key in _SECTIONS
            or key == _IN_NAMES
            or (getattr(value, key) == default and key not in _ALWAYS.get(section, ()))
        ):
            continue
        reason = why.get("rouge_words" if (section, key) == ("score", "words") else key)
        if reason is not None:
            yield from _comment(reason)
        yield f"{_key(key)} = {_toml(instead.get(key, plain.get(key)))}"


def _model(study: StudySpec, file: Path) -> str | dict[str, Any]:
    """The only model: its name, or a table if it has other settings."""
    [model] = study.models
    name = _relative(model.name, file) if Path(model.name).exists() else model.name
    settings = model.model_dump(mode="json", exclude_defaults=True) | {"name": name}
    settings.pop("trust_remote_code", None)  # a file cannot allow it: whoever starts the study does
    return name if set(settings) == {"name"} else settings


def _paths(data: DataSpec, file: Path) -> dict[str, Any]:
    """The files of the data, relative to the folder of the study file."""
    found: dict[str, Any] = {}
    for key in ("train_file", "validation_file", "test_file"):
        names = [_relative(name, file) for name in paths_of(getattr(data, key))]
        if names:
            found[key] = names[0] if len(names) == 1 else names
    if data.source is not None and Path(data.source).exists():
        found["source"] = _relative(data.source, file)
    return found


def _relative(name: str, file: Path) -> str:
    path = Path(name)
    return name if path.is_absolute() else Path(os.path.relpath(path, file.parent)).as_posix()


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        " ".join(sanitize(text).split()), _WIDTH, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False
    )


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else json.dumps(name)


def _toml(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(key)} = {_toml(item)}' for key, item in value.items())} }}"
    # A basic string of TOML has the escapes of JSON, but DEL must be escaped too.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
