"""rsLoRA: LoRA scaled by the square root of its rank (Kalajdzievski 2023, arXiv:2312.03732)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tuneoff.methods.lora import Lora


@dataclass(frozen=True)
class RsLora(Lora):
    """Rank-stabilised LoRA: the product is scaled by alpha over the square root of r."""

    name: ClassVar[str] = "rslora"
    title: ClassVar[str] = "rsLoRA"
    source: ClassVar[str] = "Kalajdzievski 2023, arXiv:2312.03732; rates as for LoRA"
    variant: ClassVar[Mapping[str, Any]] = {"use_rslora": True}
