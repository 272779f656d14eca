"""A study from a preset, a TOML file and flags: flags override the file, the file overrides defaults.

The TOML mirrors `StudySpec`; `models` may also be a list of names. Every error message names the file and line, or the
flag. Relative paths in a file are relative to that file, relative paths in flags to the working directory.
"""

import contextlib
import os
import re
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tuneoff.confined import LimitReached, ProcessLimits, call_confined
from tuneoff.errors import UserError
from tuneoff.regular_files import read_limited
from tuneoff.spec import DataSpec, GenerateSpec, ModelSpec, PromptSpec, StudySpec, TrainSpec
from tuneoff.spec.run import Frozen
from tuneoff.spec.wrong_values import KeyPath, expectation, setting_of, shown
from tuneoff.text import did_you_mean

SECTIONS: dict[str, type[Frozen]] = {
    "data": DataSpec,
    "generate": GenerateSpec,
    "models": ModelSpec,
    "prompt": PromptSpec,
    "train": TrainSpec,
}
FILE_KEYS = ("train_file", "validation_file", "test_file")
_MOST_BYTES = 1_000_000  # of a study file
_OPEN_PIPES = ("/dev/fd/", "/proc/self/fd/")
_LONG_TEXT = 4_000  # characters: a shorter one is read in a second, whatever it is
_READING = ProcessLimits(memory_bytes=2 * 10**9, cpu_seconds=10, wall_seconds=60, result_bytes=1000)
_SEARCH_SECONDS = 5.0
_MOST_LINES_TO_SEARCH = 1000  # the search for a line reads the text once for each of its lines
TO_EVERY_MODEL = "*"
TRUST = ("models", TO_EVERY_MODEL, "trust_remote_code")


@dataclass(frozen=True)
class Override:
    """One value typed on the command line. `path` leads into the study; `*` after `models` means every model."""

    path: tuple[str, ...]
    value: Any
    flag: str  # as typed, for messages


@dataclass(frozen=True)
class _Source:
    """A TOML text, and its name for messages."""

    name: str
    text: str

    def place(self, path: KeyPath) -> str | None:
        """`name, line n` of a key or table; None if the text does not contain it."""
        line = line_of(self.text, path)
        return f"{self.name}, line {line}" if line else None


def presets() -> dict[str, str]:
    """Studies that come with the package: name -> TOML text."""
    folder = resources.files("tuneoff") / "presets"
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".toml")
    }


def line_of(text: str, path: KeyPath) -> int | None:
    """The line (from 1) of the first statement that sets `path` in a valid TOML text.

    A prefix of the text that ends between two statements is valid TOML too, so the statement in question follows the
    longest valid prefix without the key. This needs no second TOML grammar. None if there is none, or for a text that
    takes long.
    """
    lines = text.splitlines()
    if len(lines) > _MOST_LINES_TO_SEARCH:
        return None
    after, end = 0, time.monotonic() + _SEARCH_SECONDS
    for count in range(1, len(lines) + 1):
        if time.monotonic() > end:
            return None
        try:
            found: Any = tomllib.loads("\n".join(lines[:count]) + "\n")
        except tomllib.TOMLDecodeError:
            continue
        if _holds(found, path):
            statement = (n for n in range(after, count) if lines[n].strip() and not lines[n].lstrip().startswith("#"))
            return next(statement, after) + 1
        after = count
    return None


def _holds(value: Any, path: KeyPath) -> bool:
    for key in path:
        if isinstance(value, dict) and key in value:
            value = value[str(key)]
        elif isinstance(value, list) and isinstance(key, int) and key < len(value):
            value = value[key]
        else:
            return False
    return True


@dataclass(frozen=True)
class SourcedSpec:
    """A study that knows where its settings come from, for messages."""

    spec: StudySpec
    source: _Source | None
    overrides: Sequence[Override]

    @property
    def name(self) -> str:
        """Name of the file or preset."""
        return self.source.name if self.source else "study"

    def place(self, path: KeyPath) -> str:
        """The flag, or the file and line, that a setting comes from; `study` if neither is known."""
        return _place(path, self.source, self.overrides)


def read_toml(
    file: Path | None = None,
    preset: str | None = None,
    overrides: Sequence[Override] = (),
) -> SourcedSpec:
    """The study that a file or a preset describes, with `overrides` applied.

    Raises `UserError` for a file that is missing or not TOML, an unknown key, or a value out of range. Names of methods
    and hyper-parameters are not checked here: that needs the registry.
    """
    if file is not None and preset is not None:
        raise UserError(f"both a study file ({file}) and --preset {preset} were given: keep one of them")
    source, folder = _open(file, preset)
    document = _parse(source) if source else {}
    _check_tables(document, source)
    _check_models(document, source)
    if isinstance(document.get("models"), list):
        document["models"] = [{"name": entry} if isinstance(entry, str) else entry for entry in document["models"]]
    _refuse_code(document, source, overrides)
    if folder is not None:
        _anchor(document, folder)
    _apply(document, overrides)
    document.setdefault("data", {})
    document.setdefault("name", _name_from(document["data"]))
    try:
        study = StudySpec.model_validate(document)
    except ValidationError as error:
        raise UserError(_explain(error.errors(), document, source, overrides)) from error
    return SourcedSpec(study, source, overrides)


def _open(file: Path | None, preset: str | None) -> tuple[_Source | None, Path | None]:
    if preset is not None:
        known = presets()
        if preset not in known:
            raise UserError(f"--preset {preset}: no such preset{did_you_mean(preset, known)}")
        return _Source(f"preset {preset}", known[preset]), None
    if file is None:
        return None, None
    try:
        return _Source(str(file), _content(file).decode("utf-8-sig")), file.parent
    except FileNotFoundError as error:
        hint = " (for the built-in study: --preset starter)" if str(file) in presets() else ""
        raise UserError(f"{file}: no such study file{hint}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text, so not a TOML study") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error


def _content(file: Path) -> bytes:
    if str(file).startswith(_OPEN_PIPES):  # `tuneoff compare <(...)`: the shell has opened it for us
        with file.open("rb") as stream:
            return stream.read(_MOST_BYTES)
    return read_limited(file, _MOST_BYTES)


def _parse(source: _Source) -> dict[str, Any]:
    if len(source.text) > _LONG_TEXT:
        _try(source)
    try:
        document = tomllib.loads(source.text)
        _check_integers(document)
        return document
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise UserError(
            f'{source.name}: not TOML ({error}); a line is a key and its value, and texts are in quotes: name = "mine"'
        ) from error


def _try(source: _Source) -> None:
    """Raise `UserError` for a text that takes far longer to read than any study: a key may have any number of parts."""

    def work() -> bytes:
        with contextlib.suppress(ValueError, RecursionError):  # said with the line, afterwards
            tomllib.loads(source.text)
        return b""

    try:
        call_confined(work, _READING)
    except LimitReached as error:
        raise UserError(f"{source.name}: {error} to be read, so it is not a study; write it again") from error


def _check_integers(document: object) -> None:
    """Raise `ValueError` for an integer that has more bits than TOML allows."""
    waiting = [document]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict | list):
            waiting.extend(one.values() if isinstance(one, dict) else one)
        elif isinstance(one, int) and one.bit_length() > 64:
            raise ValueError("an integer of more than 64 bits")


def _check_tables(document: Mapping[str, Any], source: _Source | None) -> None:
    """Sections must be tables. Overrides are written into them, so this precedes the full validation."""
    for key in ("data", "generate", "hyperparameters", "predictions", "prompt", "train"):
        if key in document and not isinstance(document[key], dict):
            where = source.place((key,)) if source else None
            raise UserError(f"{where or 'study'}: `{key}` is a table; write [{key}] and its keys below it")


def _check_models(document: Mapping[str, Any], source: _Source | None) -> None:
    models = document.get("models", [])
    if not isinstance(models, list) or not all(isinstance(entry, str | dict) for entry in models):
        where = source.place(("models",)) if source else None
        raise UserError(
            f'{where or "study"}: `models` is a list: write models = ["NAME"], or [[models]] and its keys below it'
        )


def _refuse_code(document: Mapping[str, Any], source: _Source | None, overrides: Sequence[Override]) -> None:
    """Raise `UserError` for a study file that allows code of a model: whoever starts the study must say so."""
    if any(override.path in (("models",), TRUST) for override in overrides):
        return
    for index, model in enumerate(document.get("models", [])):
        if isinstance(model, dict) and model.get("trust_remote_code") not in (None, False):
            where = source.place(("models", index, "trust_remote_code")) if source else None
            raise UserError(
                f"{where or 'study'}: a study file cannot allow code that comes with a model; remove "
                "`trust_remote_code`, and type --trust-remote-code if you trust the model's authors"
            )


def _anchor(document: dict[str, Any], folder: Path) -> None:
    """Make relative paths relative to the study file. A name without a file or folder there stays a hub name."""
    data = document.get("data", {})
    for key in FILE_KEYS:
        if isinstance(data.get(key), str):
            data[key] = _in_folder(folder, data[key])
        elif isinstance(data.get(key), list):
            data[key] = [_in_folder(folder, path) if isinstance(path, str) else path for path in data[key]]
    predictions = document.get("predictions", {})
    for name, path in predictions.items():
        if isinstance(path, str):
            predictions[name] = _in_folder(folder, path)
    models = document.get("models")
    named = [data, *(models if isinstance(models, list) else [])]
    for entry, key in zip(named, ["source", *["name"] * (len(named) - 1)], strict=True):
        name = entry.get(key) if isinstance(entry, dict) else None
        if isinstance(name, str) and name != "starter" and (folder / name).exists():
            entry[key] = str(folder / name)


def _in_folder(folder: Path, path: str) -> str:
    """The path as seen from the folder of the study file; `~` is the home folder."""
    known = os.path.expanduser(path) if path.startswith("~/") else path  # noqa: PTH111 - keeps `~` without home
    return str(folder / known)


def _apply(document: dict[str, Any], overrides: Sequence[Override]) -> None:
    typed = {override.path for override in overrides}
    data = document.setdefault("data", {})
    # Data on the command line replace the data of the study, and with them what the study says about columns.
    if ("data", "source") in typed or ("data", "train_file") in typed:
        for key in (
            "source",
            *FILE_KEYS,
            "config",
            "document_column",
            "summary_column",
            "summary_lists",
            "repeated_documents",
            "encoding",
        ):
            data.pop(key, None)
    # Names of models first, then what applies to each of them.
    for override in sorted(overrides, key=lambda override: TO_EVERY_MODEL in override.path):
        if TO_EVERY_MODEL in override.path:
            models = document.get("models", [ModelSpec().model_dump()])
            document["models"] = [{**model, override.path[-1]: override.value} for model in models]
            continue
        table = document
        for key in override.path[:-1]:
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise UserError(f"{override.flag}: the study has no table for it")
        table[override.path[-1]] = override.value


def _name_from(data: Mapping[str, Any]) -> str:
    """A study's name from its data: the name of the file or data set; for a `train.jsonl`, the name of its folder."""
    source = data.get("source")
    if isinstance(source, str):
        words = Path(source).name
    elif isinstance(train := _first_file(data.get("train_file")), str):
        path = Path(train)
        words = path.absolute().parent.name if path.stem in ("train", "training") else path.stem
    else:
        words = ""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", words).strip("-.")[:64]
    return slug or "study"


def _first_file(value: object) -> object:
    return value[0] if isinstance(value, list | tuple) and value else value


def _explain(
    errors: Sequence[ErrorDetails],
    document: Mapping[str, Any],
    source: _Source | None,
    overrides: Sequence[Override],
) -> str:
    """One sentence for the first error; unknown keys first, because a misspelt key often causes the others."""
    error = min(errors, key=lambda error: error["type"] != "extra_forbidden")
    path = setting_of(error, document)
    place = _place(path[:-1] if error["type"] == "missing" else path, source, overrides)
    key = str(next((part for part in reversed(path) if isinstance(part, str)), "study"))
    if error["type"] == "extra_forbidden":
        if path == ("model",):
            return f'{place}: unknown key `model`; write [[models]] and its keys below it, such as name = "starter"'
        owner: type[Frozen] = SECTIONS.get(str(path[0]), StudySpec) if len(path) > 1 else StudySpec
        return f"{place}: unknown key `{key}`{did_you_mean(key, owner.model_fields)}"
    if error["type"] == "value_error":
        message = error["msg"].removeprefix("Value error, ")
        return message if place == "study" or not message[:1].islower() else _prefixed(path, place, message)
    if error["type"] == "missing":
        return f"{place}: `{key}` is missing"
    return f"{place}: `{key}` {expectation(error, path)}, not {shown(document, path)}"


def _prefixed(path: KeyPath, place: str, message: str) -> str:
    return message if path == ("data",) else f"{place}: {message}"


def _place(path: KeyPath, source: _Source | None, overrides: Sequence[Override]) -> str:
    wanted = tuple(TO_EVERY_MODEL if isinstance(part, int) else part for part in path)
    for override in overrides:
        length = len(override.path)
        if wanted[:length] == override.path or override.path == ("models",) == path[:1]:
            return override.flag
    return (source.place(path) if source else None) or "study"
