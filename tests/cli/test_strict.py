"""What `doctor --strict` finds."""

import importlib.metadata
import json
import os
from pathlib import Path

import pytest

from support.damage import write_study
from tuneoff import cache
from tuneoff.cli import main
from tuneoff.cli.strict import problems


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setenv("TUNEOFF_CACHE", str(folder))
    return folder


def test_a_sound_environment_has_no_problem(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--strict"]) == 0
    assert capsys.readouterr().out == "Nothing unsafe or damaged was found.\n"
    assert main(["doctor", "--strict", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"problems": []}


def test_a_package_that_is_too_old_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["torch>=2.10", "numpy>=2", "a-package-of-nobody>=4; extra == 'hub'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda _name: wanted)
    monkeypatch.setattr(importlib.metadata, "version", {"torch": "2.5.1", "numpy": "2.1"}.__getitem__)
    assert list(problems(None, {})) == ["torch 2.5.1: tuneoff needs >=2.10; run pip install 'torch>=2.10'"]


def test_variables_that_take_protection_away() -> None:
    found = list(problems(None, {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "HF_ENDPOINT": "http://mirror"}))
    assert [line.partition(":")[0] for line in found] == ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "HF_ENDPOINT"]
    assert not list(problems(None, {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "0", "HF_ENDPOINT": "https://mirror"}))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_cache_that_everybody_can_change(own_cache: Path) -> None:
    own_cache.chmod(0o777)
    assert list(problems(None, {})) == [f"{own_cache}: every user can change what is in it; run chmod o-w {own_cache}"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_folder_above_cache_and_study_is_named_once(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(tmp_path / "study").path
    tmp_path.chmod(0o777)
    assert list(problems(study, {})) == [f"{tmp_path}: every user can change what is in it; run chmod o-w {tmp_path}"]
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    [line] = problems(study, {})
    assert line.startswith(f"{own_cache}: the cache belongs to another user")


def test_a_damaged_file_of_the_cache(own_cache: Path) -> None:
    with cache.CacheWriter("tokens", "a" * 32) as writer:
        writer.append(b"tokens of a text")
        writer.finish({})
    assert not list(problems(None, {}))
    path = own_cache / "tokens" / ("a" * 32)
    path.write_bytes(path.read_bytes().replace(b"text", b"test"))
    [line] = problems(None, {})
    assert line.startswith(f"{path}: damaged")


def test_a_study_with_a_damaged_file_and_a_link(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = write_study(tmp_path / "study").path
    assert main(["doctor", str(study), "--strict"]) == 0
    (study / "plan.json").write_text("{}")
    (study / "figures").symlink_to(tmp_path)
    capsys.readouterr()
    assert main(["doctor", str(study), "--strict"]) == 1
    link, damaged = capsys.readouterr().out.splitlines()
    assert link.startswith(f"{study / 'figures'}: a link")
    assert damaged.startswith(f"{study / 'plan.json'}: damaged; restore it, or run the command")


def test_a_folder_needs_the_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(tmp_path)]) == 2
    assert "a folder is checked with --strict only" in capsys.readouterr().err
