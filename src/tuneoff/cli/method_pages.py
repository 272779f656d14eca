"""Methods as text for people and as data for programs: origin, and hyper-parameters with flags, defaults, ranges."""

import typing
from collections.abc import Sequence
from dataclasses import Field, fields
from typing import Any

from tuneoff import methods
from tuneoff.cli.method_flags import method_flags
from tuneoff.methods import Method
from tuneoff.methods.hyperparameters import Bounds, types_of
from tuneoff.spec.row_names import method_of

_KINDS = {bool: "true or false", str: "a text", float: "a number", int: "a whole number"}


def method_pages(names: Sequence[str]) -> str:
    """The pages of some methods. Raises `UserError` for an unknown name."""
    return "\n\n".join(_page(method_of(name).replace("-", "_")) for name in names)


def _page(name: str) -> str:
    kind = methods.method_class(name)
    spelled: dict[str, list[str]] = {key: [] for key in methods.defaults(name)}
    for flag, key in method_flags(name).items():
        spelled[key].append(flag)
    rows: list[tuple[str, str, str]] = []
    for field in fields(kind):
        flag = f"--{field.name.replace('_', '-')}"
        others = ", ".join(other for other in spelled[field.name] if other != flag)
        allowed = _allowed(kind, field) + (f"; also {others}" if others else "")
        rows.append((flag, as_typed(methods.defaults(name)[field.name]), allowed))
    lines = [f"{name}: {kind.title}. {kind.source}"]
    if not rows:
        return f"{lines[0]}\n  no hyper-parameters"
    example = rows[0][0].removeprefix("--").replace("-", "_")
    lines.append(f"  flags of tuneoff train {name}; in tuneoff compare: --set {name}.{example}={rows[0][1]}")
    wide, long = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join([*lines, *(f"  {flag:<{wide}}  {default:<{long}}  {allowed}" for flag, default, allowed in rows)])


def _allowed(kind: type[Method], field: Field[Any]) -> str:
    declared = types_of(kind)[field.name]
    words = "as in PEFT" if declared is Any else _KINDS.get(declared, "names, separated by commas")
    bounds = field.metadata.get("bounds")
    if isinstance(bounds, Bounds) and declared in (int, float):
        words = bounds.describe(declared)
    if field.name in kind.search:
        low, high = kind.search[field.name]
        words += f"; trials search from {low:g} to {high:g}"
    if field.name in kind.choices:
        words += f"; trials choose from {len(kind.choices[field.name])} values"
    return words


def as_typed(value: Any) -> str:
    """A hyper-parameter as it is typed."""
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()  # as it is typed
    return repr(value) if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def methods_as_json(names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Every method of the registry, or those of some `names`, with hyper-parameters."""
    given = [method_of(name).replace("-", "_") for name in names]
    chosen = {name: methods.method_class(name) for name in given}
    return [
        {
            "name": name,
            "title": kind.title,
            "trains": kind.trains,
            "hyperparameters": methods.defaults(name),
            "search": {key: list(bounds) for key, bounds in kind.search.items()},
            "choices": {key: list(values) for key, values in kind.choices.items()},
            "source": kind.source,
        }
        for name, kind in (chosen or methods.METHODS).items()
    ]


def methods_as_text() -> str:
    """Every method for people, with the defaults of its hyper-parameters."""
    lines = []
    for name, kind in methods.METHODS.items():
        lines.append(f"{name}: {kind.title}. {kind.source}")
        types = typing.get_type_hints(kind)
        for key, value in methods.defaults(name).items():
            low_high = kind.search.get(key)
            searched = f"  (searched from {low_high[0]:g} to {low_high[1]:g})" if low_high else ""
            if key in kind.choices:
                searched = f"  ({len(kind.choices[key])} values to try)"
            written = types[key].__name__ if isinstance(types[key], type) else "names"
            lines.append(f"  {name}.{key} = {as_typed(value)}  {written}{searched}")
    lines.append("peft:TYPE: any adapter of the installed PEFT that lives in a model's layers, with PEFT's settings")
    return "\n".join(lines)
