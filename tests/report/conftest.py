"""Studies whose report was written, one of each kind for the whole session."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.report_study import HOSTILE, FakeStudy, draw


@pytest.fixture
def fake_study(tmp_path: Path) -> Callable[..., Path]:
    """Writes a fake study folder and returns it."""
    return FakeStudy(tmp_path / "study").write


@pytest.fixture(scope="session")
def rich_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A verdict, two seeds, a failed method and an outside system; many documents."""
    folder = FakeStudy(tmp_path_factory.mktemp("rich")).write(
        documents=618, seeds=2, failed=("soft_prompt",), verdict=True, outside={"api": "A colleague's API"}
    )
    draw(folder)
    return folder


@pytest.fixture(scope="session")
def hostile_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every free text is an attack."""
    folder = FakeStudy(tmp_path_factory.mktemp("hostile")).write(
        documents=4, failed=("full",), hostile=HOSTILE, outside={"api": HOSTILE}
    )
    draw(folder)
    return folder


@pytest.fixture(scope="session")
def textless_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run with `--no-texts`."""
    folder = FakeStudy(tmp_path_factory.mktemp("textless")).write(
        documents=4, texts=False, methods=("zero_shot", "lora")
    )
    draw(folder)
    return folder
