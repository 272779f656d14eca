"""The ways of adapting a model. A new one is a file here and a line in `METHODS`."""

import dataclasses
import difflib
import math
import typing
from collections.abc import Mapping
from typing import Any

from tuneoff.errors import UserError
from tuneoff.methods import peft_type
from tuneoff.methods.base import Adapted, Method
from tuneoff.methods.bitfit import BitFit
from tuneoff.methods.dora import Dora
from tuneoff.methods.few_shot import FewShot
from tuneoff.methods.full import Full
from tuneoff.methods.ia3 import Ia3
from tuneoff.methods.last_layers import LastLayers
from tuneoff.methods.ln_tuning import LnTuning
from tuneoff.methods.lora import Lora
from tuneoff.methods.prefix_tuning import PrefixTuning
from tuneoff.methods.rslora import RsLora
from tuneoff.methods.soft_prompt import SoftPrompt
from tuneoff.methods.soft_prompt_after import SoftPromptAfter
from tuneoff.methods.zero_shot import ZeroShot
from tuneoff.spec.run import Scalar

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        ZeroShot,
        FewShot,
        SoftPrompt,
        SoftPromptAfter,
        PrefixTuning,
        Ia3,
        LnTuning,
        BitFit,
        Lora,
        Dora,
        RsLora,
        LastLayers,
        Full,
    )
}

__all__ = ["METHODS", "Adapted", "Method", "added_later", "build", "defaults", "kind_of"]

# What a value must satisfy beside its type, by the name of the hyper-parameter (names mean the same everywhere).
_RANGES: dict[str, tuple[float, float, str]] = {
    "learning_rate": (0, 100, "above 0 and at most 100"),
    "weight_decay": (-1e-300, 100, "0 to 100"),
    "r": (0, 65536, "a whole number from 1 to 65536"),
    "lora_alpha": (0, 65536, "above 0 and at most 65536"),
    "lora_dropout": (-1e-300, 0.999, "0 to below 1"),
    "shots": (0, 64, "a whole number from 1 to 64"),
    "num_layers": (0, 4096, "a whole number from 1 to 4096"),
    "num_virtual_tokens": (0, 4096, "a whole number from 1 to 4096"),
    "residual_bottleneck": (-1, 65536, "0 (no network) or a whole number up to 65536"),
}


def kind_of(name: str) -> type[Method]:
    """The class of a method: an entry of the registry, or `peft:<TYPE>`. Raises `UserError` for an unknown name."""
    if name.startswith(peft_type.PREFIX):
        return peft_type.kind(name)
    if name not in METHODS:
        close = difflib.get_close_matches(name.replace("-", "_"), METHODS, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(METHODS)}"
        raise UserError(f"unknown method {name!r}: {hint}")
    return METHODS[name]


def defaults(name: str) -> dict[str, Scalar]:
    """Every hyper-parameter of a method with its default. Raises `UserError` for an unknown method."""
    return dataclasses.asdict(kind_of(name)())  # type: ignore[call-overload, no-any-return]


def added_later(name: str) -> dict[str, Scalar]:
    """Hyper-parameters that are younger than runs which users may have (their field says `later`), with the defaults at
    which nothing differs from those runs."""
    known = defaults(name)
    return {
        entry.name: known[entry.name]
        for entry in dataclasses.fields(kind_of(name))  # type: ignore[arg-type]
        if entry.metadata.get("later")
    }


def build(name: str, hyperparameters: Mapping[str, Any]) -> Method:
    """The method with these hyper-parameters. Raises `UserError` for an unknown name or a value that can't be."""
    method = kind_of(name)
    declared = typing.get_type_hints(method)
    known = [entry.name for entry in dataclasses.fields(method)]  # type: ignore[arg-type]
    checked: dict[str, Any] = {}
    for key, value in hyperparameters.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"did you mean {name}.{close[0]}?" if close else f"it has {', '.join(known) or 'none'}"
            raise UserError(f"{name} has no hyper-parameter {key!r}: {hint}")
        if declared[key] is Any:  # PEFT's own setting: PEFT checks it
            checked[key] = tuple(value) if isinstance(value, list) else value
        else:
            checked[key] = _checked(f"{name}.{key}", key, declared[key], value)
    return method(**checked)


def _checked(place: str, key: str, declared: Any, value: Any) -> Any:
    """`value` as the declared type, inside its range."""
    if typing.get_origin(declared) is tuple:
        items = (value,) if isinstance(value, str) else value
        if (
            not isinstance(items, list | tuple)
            or not items
            or not all(isinstance(item, str) and item for item in items)
        ):
            raise UserError(f'{place} = {value!r}: expected one or more names, such as ["q_proj", "v_proj"]')
        return tuple(items)
    if declared is bool:
        if not isinstance(value, bool):
            raise UserError(f"{place} = {value!r}: expected true or false")
        return value
    if declared is str:
        if not isinstance(value, str):
            raise UserError(f"{place} = {value!r}: expected a text")
        return value
    assert declared in (int, float)
    whole = declared is int
    if isinstance(value, bool) or not isinstance(value, int | float) or (whole and not float(value).is_integer()):
        raise UserError(f"{place} = {value!r}: expected {'a whole number' if whole else 'a number'}")
    if key in _RANGES:
        low, high, words = _RANGES[key]
        if not math.isfinite(value) or not low < value <= high:
            raise UserError(f"{place} = {value!r}: must be {words}")
    return declared(value)
