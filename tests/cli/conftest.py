"""A study that takes seconds: a tiny random model and a handful of documents."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def tiny(tiny_model: Callable[[str], Path], tiny_data: dict[str, Path]) -> list[str]:
    """The flags of a study on it, but for the methods and the folder."""
    return [
        f"--model={tiny_model('gpt_neo')}",
        *(f"--{split}-file={path}" for split, path in tiny_data.items()),
        "--max-length=128",
        "--max-new-tokens=8",
        "--max-steps=2",
        "--precision=fp32",
    ]
