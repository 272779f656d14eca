"""Rows of a comparison: what a method's name, or the name of a setting of it, means.

`lora@r=64@alpha=128` is LoRA with two settings, and everything else as the study sets it for `lora`. Several rows of
one method are compared under the same effort as any two methods.
"""

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuneoff.errors import UserError
from tuneoff.methods.base import Method
from tuneoff.methods.registry import METHODS, defaults, method_class
from tuneoff.spec.row_names import MARK, ascending, method_of
from tuneoff.spec.run import Scalar
from tuneoff.text import did_you_mean

# Names in PEFT's examples, TRL and LLaMA-Factory -> ours.
OTHER_NAMES = {
    "alpha": "lora_alpha",
    "lora_r": "r",
    "lora_rank": "r",
    "lora_target": "target_modules",
    "lora_target_modules": "target_modules",
    "prompt_tuning_init_text": "initial_prompt",
    "rank": "r",
}
_OWN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST_NAME = 100  # characters: it is a heading of tables, and a name of files
_LIST_MARK = "+"


@dataclass(frozen=True)
class Row:
    """One row. `settings` are those in its name; a name of its own has its settings in the study file."""

    name: str
    method: str
    settings: Mapping[str, Scalar]


def parse_row(text: str) -> Row:
    """The row that a text names, with the one spelling of its name.

    Raises `UserError` for an unknown method or setting, for a value that is none of its type, and for another form.
    """
    method, mark, rest = text.partition(MARK)
    method = method.replace("-", "_")
    method_class(method)
    if not mark:
        return Row(method, method, {})
    parts = rest.split(MARK)
    if len(parts) == 1 and "=" not in rest:
        if not _OWN_NAME.fullmatch(rest):
            raise _other_form(text, method)
        return named_row(method, rest)
    settings: dict[str, Scalar] = {}
    for part in parts:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not key or not equals or not value:
            raise _other_form(text, method)
        known = defaults(method)
        key = key.replace("-", "_")
        key = key if key in known else OTHER_NAMES.get(key, key)
        if key not in known:
            raise UserError(f"{text}: {method} has no setting {key!r}{did_you_mean(key, known)}")
        if key in settings:
            raise UserError(f"{text}: sets {key} twice; keep one of them")
        settings[key] = typed_value(value, known[key], _LIST_MARK)
    return row_of(method, settings)


def row_of(method: str, settings: Mapping[str, Scalar]) -> Row:
    """The row of a method with settings, as `parse_row` reads it from its name.

    Raises `UserError` for settings that no name can hold, and for wrong ones.
    """
    kind = method_class(method)
    checked = kind(**settings)
    values = {
        field.name: checked.hyperparameters[field.name] for field in dataclasses.fields(kind) if field.name in settings
    }
    parts = [f"{key}={_written(value)}" for key, value in values.items()]
    if any(MARK in part or not part.isprintable() for part in parts):
        raise _no_name(method, f"a value holds {MARK} or a line end")
    row = named_row(method, MARK.join(parts))
    return dataclasses.replace(row, settings=values)


def named_row(method: str, name: str) -> Row:
    """The row of a method with a name of its own. Raises `UserError` for a long one."""
    row = Row(f"{method}{MARK}{name}", method, {})
    if len(row.name) > _LONGEST_NAME:
        raise _no_name(method, f"its settings take {len(row.name)} characters, and {_LONGEST_NAME} are allowed")
    return row


def typed_row(text: str) -> str:
    """The name of the row that a text names; of a method, known or not, its name. Raises `UserError` as `parse_row`."""
    return parse_row(text).name if MARK in text else text.replace("-", "_")


def known_method(row: str) -> type[Method] | None:
    """The class of a row's method; None for one of a package that is not installed, and for types of PEFT."""
    return METHODS.get(method_of(row))


def row_title(row: str) -> str:
    """A row for people: the title of its method, with what distinguishes the row."""
    method, _, rest = row.partition(MARK)
    kind = METHODS.get(method)
    return " ".join([kind.title if kind else method, *(rest.split(MARK) if rest else ())])


def in_order(row: str) -> tuple[int, object]:
    """A key that sorts rows: methods as in the registry, rows of one method by their values."""
    names = list(METHODS)
    method = method_of(row)
    return names.index(method) if method in METHODS else len(names), ascending(row)


def typed_value(text: str, default: Any, separator: str = ",") -> Any:
    """The typed text as a value of the default's type: text, names separated by `separator`, otherwise TOML."""
    if isinstance(default, str):
        return text
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(separator))
    try:
        parsed = tomllib.loads(f"value = {text}\n")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if set(parsed) == {"value"} else text


def _written(value: Scalar) -> str:
    """A value in the name of a row, from which `typed_value` reads the same value."""
    if isinstance(value, tuple):
        return _LIST_MARK.join(value)
    if isinstance(value, bool):
        return str(value).lower()
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return short if not isinstance(value, float) or float(short) == value else repr(value)


def _other_form(text: str, method: str) -> UserError:
    return UserError(
        f"{text}: a setting has the form {method}{MARK}NAME=VALUE, for example "
        f"{method}{MARK}{_example(method)}; several are joined with {MARK}, and names in a list with {_LIST_MARK}"
    )


def _no_name(method: str, why: str) -> UserError:
    return UserError(
        f"{method}: {why}, so these settings need a name of their own: write {method}{MARK}NAME among the methods of a "
        f'study file, and the settings below [hyperparameters."{method}{MARK}NAME"]'
    )


def _example(method: str) -> str:
    key, value = next(iter(defaults(method).items()), ("r", 64))
    return f"{key}={_written(value)}"
