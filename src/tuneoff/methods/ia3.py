"""(IA)3: a learned factor for each key, value and inner feed-forward activation (Liu et al. 2022, arXiv:2205.05638)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tuneoff.errors import UserError
from tuneoff.methods.lora import LowRank
from tuneoff.spec.run import Scalar

if TYPE_CHECKING:
    from torch import nn

    from tuneoff.data import Example
    from tuneoff.models import BaseModel

# Endings of module names over the decoder families of transformers.
_KEYS_AND_VALUES = ("k_proj", "v_proj", "attn.c_attn", "query_key_value", "qkv_proj")
_INTO_FEEDFORWARD = ("down_proj", "mlp.c_proj", "mlp.fc2", "fc2", "dense_4h_to_h")


@dataclass(frozen=True)
class Ia3:
    """Learned factors on activations; nothing else trains."""

    name: ClassVar[str] = "ia3"
    title: ClassVar[str] = "(IA)³"
    trains: ClassVar[bool] = True
    seeded: ClassVar[bool] = True
    search: ClassVar[Mapping[str, tuple[float, float]]] = {"learning_rate": (5e-4, 3e-2)}
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {}
    source: ClassVar[str] = "Liu et al. 2022, arXiv:2205.05638; rate: PEFT's method_comparison"

    learning_rate: float = 3e-3
    weight_decay: float = 0.0

    @property
    def overhead_tokens(self) -> int:
        return 0

    def adapt(self, base: BaseModel, train: Sequence[Example], seed: int) -> LowRank:  # noqa: ARG002
        from peft import IA3Config, TaskType, get_peft_model

        from tuneoff.engine.seeding import seed_everything
        from tuneoff.methods.lora import has_conv1d

        scaled = _there(base.model, _KEYS_AND_VALUES)
        inner = _there(base.model, _INTO_FEEDFORWARD)
        if not scaled or not inner:
            raise UserError(
                f"ia3: {type(base.model).__name__} has no keys, values or feed-forward layers under a known name; "
                "use lora"
            )
        config = IA3Config(
            task_type=TaskType.CAUSAL_LM,
            target_modules=[*scaled, *inner],
            feedforward_modules=inner,
            fan_in_fan_out=has_conv1d(base.model),
        )
        seed_everything(seed)
        return LowRank(get_peft_model(base.model, config, autocast_adapter_dtype=False))

    def restore(self, base: BaseModel, folder: Path) -> LowRank:
        from peft import PeftModel

        return LowRank(PeftModel.from_pretrained(base.model, str(folder), autocast_adapter_dtype=False))


def _there(model: nn.Module, endings: Sequence[str]) -> list[str]:
    names = [name for name, _ in model.named_modules()]
    return [ending for ending in endings if any(name.endswith(f".{ending}") for name in names)]
