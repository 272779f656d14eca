"""Scores of a few systems, and the files that hold them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

Values = Mapping[str, Sequence[float]]


@pytest.fixture
def values() -> Values:
    """Three systems on forty items."""
    rng = np.random.default_rng(1)
    hardness = rng.normal(50, 10, 40)
    return {
        name: (hardness + mean + rng.normal(0, 3, 40)).round(3).tolist()
        for name, mean in (("a", 0), ("b", 1), ("c", 9))
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    """Write a file, and return its path."""

    def written(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    return written
