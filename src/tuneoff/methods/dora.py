"""DoRA: LoRA that tunes magnitude and direction of a weight apart (Liu et al. 2024, arXiv:2402.09353)."""

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
