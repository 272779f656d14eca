"""The commit that a record names is tuneoff's own."""

import subprocess
from pathlib import Path

import pytest

from tuneoff import commit


def test_a_checkout_knows_its_commit() -> None:
    here = Path(commit.__file__).parent
    head = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert commit.commit() == head.stdout.strip()


def test_a_checkout_around_a_virtual_environment_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "venv" / "commit.py"
    place.parent.mkdir()
    place.write_text("")
    for words in (
        ["init", "-q"],
        ["-c", "user.name=x", "-c", "user.email=x", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr(commit, "_HERE", place)
    assert commit.commit() is None


def test_an_installed_build_names_the_commit_that_it_was_built_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "commit.txt").write_text("3f7b1f4\n")
    monkeypatch.setattr(commit, "_HERE", tmp_path / "commit.py")
    assert commit.commit() == "3f7b1f4"
