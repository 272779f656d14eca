"""The methods by name. A new one is a class in this package and a line in `METHODS`.

Another package adds a method by an entry point of the group `tuneoff.methods`: its name is the method's name, and its
object a subclass of `Method`.
"""

import dataclasses
import difflib
import re
from collections.abc import Mapping

from tuneoff.errors import UserError
from tuneoff.methods import peft_type
from tuneoff.methods.base import Method
from tuneoff.methods.few_shot import FewShot
from tuneoff.methods.full import FullFineTuning
from tuneoff.methods.ia3 import IA3
from tuneoff.methods.lora import DoRA, LoRA, RsLoRA
from tuneoff.methods.parameter_subsets import BitFit, LastLayers, LNTuning
from tuneoff.methods.prefix_tuning import PrefixTuning
from tuneoff.methods.soft_prompt import SoftPrompt, SoftPromptAfter
from tuneoff.methods.zero_shot import ZeroShot
from tuneoff.plugins import Registry
from tuneoff.spec.row_names import method_of
from tuneoff.spec.run import Scalar

_NAME = re.compile(r"[a-z][a-z0-9_]*")  # it is part of flags, of keys in study files and of folder names


def _check_method(name: str, loaded: object) -> type[Method]:
    """The method class that an entry point loads. Raises `ValueError` if it does not declare what it must."""
    if not isinstance(loaded, type) or not issubclass(loaded, Method):
        raise ValueError(f"{loaded!r} is not a subclass of tuneoff.methods.Method")
    if not _NAME.fullmatch(name):
        raise ValueError("the name of a method consists of lower-case letters, digits and underscores")
    if getattr(loaded, "name", None) != name:
        raise ValueError(f"{loaded.__name__}.name must be the name of the entry point, {name!r}")
    if missing := [key for key in ("title", "source") if not getattr(loaded, key, None)]:
        raise ValueError(f"{loaded.__name__}.{missing[0]} is missing")
    if "__dataclass_fields__" not in vars(loaded):
        raise ValueError(f"decorate {loaded.__name__} with @dataclass(frozen=True)")
    fields = {field.name for field in dataclasses.fields(loaded)}
    needed = {*loaded.search, *loaded.choices, *(("learning_rate", "weight_decay") if loaded.trains else ())}
    if absent := sorted(needed - fields):
        raise ValueError(f"{loaded.__name__} has no hyper-parameter {absent[0]}")
    loaded()  # every hyper-parameter has a default, which is within its bounds
    return loaded


METHODS: Mapping[str, type[Method]] = Registry(
    "tuneoff.methods",
    {
        method.name: method
        for method in (
            ZeroShot,
            FewShot,
            SoftPrompt,
            SoftPromptAfter,
            PrefixTuning,
            IA3,
            LNTuning,
            BitFit,
            LoRA,
            DoRA,
            RsLoRA,
            LastLayers,
            FullFineTuning,
        )
    },
    _check_method,
)


# Names of other tools for an adapter on quantized weights -> the same adapter on whole ones.
_ON_QUANTIZED_WEIGHTS = {"qlora": "lora", "qalora": "lora", "loftq": "lora", "qdora": "dora"}


def method_class(name: str) -> type[Method]:
    """The class of a method or of a row of it: an entry of `METHODS`, or `peft:<TYPE>`.

    Raises `UserError` for an unknown name.
    """
    name = method_of(name)
    if name.startswith(peft_type.PREFIX):
        return peft_type.adapter_class(name)
    if name not in METHODS:
        if (quantized := _ON_QUANTIZED_WEIGHTS.get(name.lower())) is not None:
            raise UserError(
                f"unknown method {name!r}: LoRA is trained here on weights in fp32 or bf16, never on 4 or 8 bits; "
                f"write {quantized}, which needs more memory"
            )
        close = difflib.get_close_matches(name.replace("-", "_"), METHODS, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(METHODS)}"
        raise UserError(f"unknown method {name!r}: {hint}")
    return METHODS[name]


def defaults(name: str) -> dict[str, Scalar]:
    """Every hyper-parameter of a method with its default. Raises `UserError` for an unknown method."""
    return method_class(name)().hyperparameters


def added_later(name: str) -> dict[str, Scalar]:
    """Hyper-parameters that a method received when users already had runs of it, with their defaults.

    With its default, such a hyper-parameter changes nothing, and it does not count in a run's id.
    """
    known = defaults(name)
    return {
        field.name: known[field.name] for field in dataclasses.fields(method_class(name)) if field.metadata.get("later")
    }


def build(name: str, hyperparameters: Mapping[str, object]) -> Method:
    """The method with these hyper-parameters, and defaults for all others.

    Raises:
        UserError: The method or a hyper-parameter is unknown, or a value has the wrong type or is out of bounds.
    """
    method = method_class(name)
    known = [field.name for field in dataclasses.fields(method)]
    for key in hyperparameters:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"did you mean {method_of(name)}.{close[0]}?" if close else f"it has {', '.join(known) or 'none'}"
            raise UserError(f"{name} has no hyper-parameter {key!r}: {hint}")
    return method(**hyperparameters)
