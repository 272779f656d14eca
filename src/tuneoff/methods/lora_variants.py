"""LoRA with one thing changed: DoRA splits magnitude from direction, rsLoRA scales by the square root of the rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from tuneoff.methods.lora import Lora


@dataclass(frozen=True)
class Dora(Lora):
    """Weight-decomposed low-rank adaptation."""

    name: ClassVar[str] = "dora"
    title: ClassVar[str] = "DoRA"
    source: ClassVar[str] = "Liu et al. 2024, arXiv:2402.09353; rates as for LoRA"
    variant: ClassVar[Mapping[str, Any]] = {"use_dora": True}


@dataclass(frozen=True)
class RsLora(Lora):
    """Rank-stabilised LoRA: the product is scaled by alpha over the square root of r."""

    name: ClassVar[str] = "rslora"
    title: ClassVar[str] = "rsLoRA"
    source: ClassVar[str] = "Kalajdzievski 2023, arXiv:2312.03732; rates as for LoRA"
    variant: ClassVar[Mapping[str, Any]] = {"use_rslora": True}
