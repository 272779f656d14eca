"""`peft:<TYPE>`: any adapter that the installed PEFT puts into the layers of a model, through the same loop and report.

Its hyper-parameters are the fields of PEFT's own configuration of that type, checked by PEFT. What one type does to a
model is PEFT's business; types that make prompts or past keys (PROMPT_TUNING, PREFIX_TUNING ...) go another way through
the model and are refused.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tuneoff.errors import UserError
from tuneoff.methods.lora import ALL_LINEAR, LowRank
from tuneoff.spec.run import Scalar

if TYPE_CHECKING:
    from tuneoff.data import Example
    from tuneoff.methods.base import Method
    from tuneoff.models import BaseModel

PREFIX = "peft:"
# Set by us, or about what a study has its own words for.
_NOT_SETTINGS = {"task_type", "peft_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode"}


@dataclasses.dataclass
class Injected(LowRank):
    """A base model with PEFT's layers of some type in it."""

    def merge(self) -> None:
        try:
            super().merge()
        except (AttributeError, NotImplementedError, ValueError, TypeError):
            self.details["merged"] = False  # this type cannot be folded into the weights: decoding runs its layers


@dataclasses.dataclass(frozen=True)
class PeftAdapter:
    """One of PEFT's types. The fields of its configuration are added by `kind`."""

    name: ClassVar[str]
    title: ClassVar[str]
    peft_type: ClassVar[str]
    trains: ClassVar[bool] = True
    seeded: ClassVar[bool] = True
    search: ClassVar[Mapping[str, tuple[float, float]]] = {"learning_rate": (1e-4, 1e-2)}
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {}
    source: ClassVar[str] = "PEFT's configuration of this type; the range of rates is ours and wide"

    learning_rate: float = 1e-3
    weight_decay: float = 0.0

    @property
    def overhead_tokens(self) -> int:
        return 0

    def adapt(self, base: BaseModel, train: Sequence[Example], seed: int) -> Injected:  # noqa: ARG002
        from peft import TaskType, get_peft_model

        from tuneoff.engine.seeding import seed_everything

        config_class = _configurations()[self.peft_type]
        standard = {field.name: getattr(type(self)(), field.name) for field in dataclasses.fields(self)}
        given = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
            if name not in ("learning_rate", "weight_decay") and value != standard[name]
        }
        known = {field.name for field in dataclasses.fields(config_class)}
        if "target_modules" in known:
            given.setdefault("target_modules", ALL_LINEAR)
        seed_everything(seed)
        try:
            adapted = get_peft_model(
                base.model,
                config_class(task_type=TaskType.CAUSAL_LM, **given),
                autocast_adapter_dtype=False,
                revision=base.revision,
            )
        except (ValueError, TypeError, KeyError, NotImplementedError, ImportError) as error:
            raise UserError(f"{self.name}: PEFT refuses this ({error})") from error
        dropout = given.get("lora_dropout")
        return Injected(adapted, dropout if isinstance(dropout, float) else 0.0, seed)

    def restore(self, base: BaseModel, folder: Path) -> Injected:
        from peft import PeftModel

        return Injected(PeftModel.from_pretrained(base.model, str(folder), autocast_adapter_dtype=False))


@functools.cache
def _configurations() -> dict[str, Any]:
    """Types that live in the layers of a model, by name."""
    import peft
    from peft.config import PromptLearningConfig
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    assert peft.__version__
    return {
        str(kind.value): config
        for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()
        if not issubclass(config, PromptLearningConfig)
    }


@functools.cache
def kind(name: str) -> type[Method]:
    """The method class of `peft:<TYPE>`. Raises `UserError` for a type that PEFT does not have, or not in layers."""
    peft_type = name.removeprefix(PREFIX).upper()
    known = _configurations()
    if peft_type not in known:
        raise UserError(
            f"unknown method {name!r}: the installed PEFT has no such type among {', '.join(sorted(known))}; "
            "soft prompts are the method soft_prompt"
        )
    fields = []
    for field in dataclasses.fields(known[peft_type]):
        if field.name in _NOT_SETTINGS or field.name in ("learning_rate", "weight_decay"):
            continue
        value = field.default if field.default is not dataclasses.MISSING else None
        plain = value if isinstance(value, bool | int | float | str) else None
        fields.append((field.name, Any, dataclasses.field(default=plain)))
    made = dataclasses.make_dataclass(f"Peft{peft_type}", fields, bases=(PeftAdapter,), frozen=True)
    made.name, made.title, made.peft_type = name, f"PEFT {peft_type}", peft_type  # type: ignore[attr-defined]
    return made
