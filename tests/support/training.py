"""What a training needs besides model and rows, for tests of the engine."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


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
