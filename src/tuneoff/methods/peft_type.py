"""`peft:<TYPE>`: any adapter that the installed PEFT puts into the layers of a model.

Its hyper-parameters are the fields of PEFT's configuration of that type, and PEFT checks them. Types that change the
prompt or add past keys and values (PROMPT_TUNING, PREFIX_TUNING ...) are refused: they need another forward pass.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tuneoff.adapter_settings import check_effort, loads_more
from tuneoff.errors import UserError
from tuneoff.methods.base import AdaptedModel, Method
from tuneoff.methods.hyperparameters import bounded
from tuneoff.methods.lora import ALL_LINEAR
from tuneoff.methods.peft_layers import PeftLayers, add_peft_layers, load_peft_layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tuneoff.data import Example
    from tuneoff.models import BaseModel

PREFIX = "peft:"
# Set by tuneoff, or settings of a study under another name.
_NOT_SETTINGS = {"task_type", "peft_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode"}


@dataclasses.dataclass(frozen=True)
class PeftAdapter(Method):
    """One of PEFT's types. `adapter_class` adds the fields of its configuration."""

    source = "PEFT's configuration of this type; the range of rates is ours and wide"
    search = {"learning_rate": (1e-4, 1e-2)}
    peft_type: ClassVar[str]

    learning_rate: float = bounded(1e-3, above=0, at_most=100)
    weight_decay: float = bounded(0.0, at_least=0, at_most=100)

    def apply(self, base: BaseModel, train: Sequence[Example], seed: int) -> AdaptedModel:
        from peft import TaskType

        config_class = _configurations()[self.peft_type]
        settings: dict[str, Any] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.changed_hyperparameters.items()
            if name not in ("learning_rate", "weight_decay")
        }
        known = {field.name for field in dataclasses.fields(config_class)}
        if "target_modules" in known and self.peft_type != "LN_TUNING":  # PEFT knows the norms of a model
            settings.setdefault("target_modules", ALL_LINEAR)
        if (key := loads_more(settings)) is not None:
            raise UserError(f"{self.name}.{key}: names code, a pickle or another model to load; leave it out")
        elements = sum(parameter.numel() for parameter in base.model.parameters())
        check_effort(self.name, {**settings, "peft_type": self.peft_type}, elements, base.model)
        try:
            config = config_class(task_type=TaskType.CAUSAL_LM, **settings)
            peft_model = add_peft_layers(base, config, base.revision)
        except (ValueError, TypeError, KeyError, NotImplementedError, ImportError) as error:
            raise UserError(f"{self.name}: PEFT refuses this ({error})") from error
        dropout = settings.get("lora_dropout")
        return PeftLayers(peft_model, dropout if isinstance(dropout, float) else 0.0, seed)

    def restore(self, base: BaseModel, folder: Path) -> AdaptedModel:
        return load_peft_layers(base, folder)


class _NeedsStepsOfItsOwn(PeftAdapter):
    """A type that is trained no more. Runs of earlier versions are judged, used and exported as they are."""

    def check(self, model: PreTrainedModel) -> str | None:
        raise UserError(
            f"{self.name}: changes its layers between the steps of PEFT's own training loop, which this one does not "
            "have; use lora"
        )


@functools.cache
def _configurations() -> dict[str, Any]:
    """Configuration classes of the types that live in the layers of a model, by name."""
    import peft
    from peft.config import PromptLearningConfig
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    assert peft.__version__
    return {
        str(peft_type.value): config
        for peft_type, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()
        if not issubclass(config, PromptLearningConfig)
    }


def _needs_steps_of_its_own(peft_type: str) -> bool:
    """AdaLoRA gives ranks to other layers while it trains. Without that it would be another method."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    return hasattr(PEFT_TYPE_TO_TUNER_MAPPING.get(peft_type), "update_and_allocate")


@functools.cache
def adapter_class(name: str) -> type[Method]:
    """The method class of `peft:<TYPE>`.

    Raises `UserError` if the installed PEFT has no such type, or if the type does not live in layers.
    """
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
        default = value if isinstance(value, bool | int | float | str) else None
        fields.append((field.name, Any, dataclasses.field(default=default)))
    return dataclasses.make_dataclass(
        f"Peft{peft_type}",
        fields,
        bases=(_NeedsStepsOfItsOwn if _needs_steps_of_its_own(peft_type) else PeftAdapter,),
        namespace={"name": name, "title": f"PEFT {peft_type}", "peft_type": peft_type},
        frozen=True,
    )
