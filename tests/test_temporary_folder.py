"""Temporary files go where TMPDIR says; without a place for them, one sentence says so."""

import os
import signal
import tempfile
from pathlib import Path

import pytest

from tuneoff import temporary_folder as module
from tuneoff.errors import UserError
from tuneoff.temporary_folder import temporary_folder


@pytest.fixture(autouse=True)
def _named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)  # Python looks for a folder once


def test_the_folder_is_removed_at_the_end(tmp_path: Path) -> None:
    with temporary_folder() as folder:
        (folder / "file").write_text("x")
        assert folder.parent == tmp_path
    assert not list(tmp_path.iterdir())


def test_without_a_place_the_way_out_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "missing")])
    with (
        pytest.raises(UserError, match=r"no temporary file can be written \(.*missing.*\); set TMPDIR"),
        temporary_folder(),
    ):
        pass


def test_a_folder_beside_the_output_is_hidden(tmp_path: Path) -> None:
    with temporary_folder(tmp_path) as folder:
        assert folder.parent == tmp_path
        assert folder.name.startswith(".")
    with pytest.raises(UserError, match=r"missing: cannot be written \(No such file or directory\); choose another"):
        temporary_folder(tmp_path / "missing").__enter__()


@pytest.mark.parametrize("beside", [False, True])
def test_what_a_killed_process_has_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, beside: bool
) -> None:
    parent = tmp_path if beside else None
    monkeypatch.setattr(module, "_LEAST_AGE_SECONDS", -1.0)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with temporary_folder(parent) as folder:
            (folder / "deep").mkdir()
            os.write(writing, b"x")
            signal.pause()
    os.read(reading, 1)
    linked = f"{'.' if beside else ''}tuneoff-temporary-linked"
    (tmp_path / linked).symlink_to(tmp_path)
    with temporary_folder(parent) as folder:
        assert len(list(tmp_path.glob("*/deep"))) == 1, "it was in use"
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with temporary_folder(parent):
            assert not list(tmp_path.glob("*/deep"))
        assert folder.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == [linked]
