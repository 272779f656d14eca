"""What a training needs besides model and rows, for tests of the engine."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.token_rows import CPU
from tuneoff.engine.checkpoint import Checkpoints
from tuneoff.engine.trainer import TrainableModel, Trainer
from tuneoff.prompts import Encoded
from tuneoff.row_cache import RowCache
from tuneoff.spec import TrainSpec


@dataclass
class TokenCounter:
    tokens: int = 0


class NoMeter:
    """Measures nothing."""

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[TokenCounter]:
        yield TokenCounter()

    def elapsed(self) -> float:
        return 0.0

    def state(self) -> dict[str, Any]:
        return {}

    def resume(self, state: Mapping[str, Any]) -> None:
        pass


def short_training(
    adapted: TrainableModel,
    train: Sequence[Encoded],
    validation: Sequence[Encoded],
    scratch: Path,
    rows: RowCache | None = None,
) -> Trainer:
    """Three epochs in micro-batches of few rows."""
    return Trainer(
        adapted,
        train,
        validation,
        TrainSpec(batch_size=2, epochs=3, micro_batch_tokens=60),
        learning_rate=1e-2,
        weight_decay=0.0,
        seed=0,
        pad_id=0,
        device=CPU,
        checkpoints=Checkpoints(scratch),
        meter=NoMeter(),
        emit=lambda event: None,
        open_rows=None if rows is None else lambda _blocks: rows,
    )
