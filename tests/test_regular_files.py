"""Only regular files are opened, and nothing that could block or never end."""

import os
import socket
from pathlib import Path

import pytest

from tuneoff import regular_files
from tuneoff.errors import UserError
from tuneoff.regular_files import check_default_place, check_filled, check_inside, open_regular, read_limited


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for path, kind in (
            (tmp_path / "pipe", "a named pipe"),
            (tmp_path / "zeros", "a device"),
            (tmp_path / "socket", "a socket"),
            (tmp_path, "a folder"),
        ):
            with pytest.raises(UserError, match=f"{path.name}: {kind}, where a regular file was expected; "):
                open_regular(path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")


def test_no_more_is_read_than_allowed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"12345")
    assert read_limited(path, 5) == b"12345"
    with pytest.raises(UserError, match="larger than the 4e-06 MB that such a file may have"):
        read_limited(path, 4)
    os.truncate(path, 10**12)  # a sparse file, which takes no room in an archive
    with pytest.raises(UserError, match="larger than the 1 MB"):
        read_limited(path, 10**6)


def test_a_hole_is_refused_without_being_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(bytes(100_000))
    with open_regular(path) as stream:
        if os.fstat(stream.fileno()).st_blocks * 512 < 100_000:
            pytest.skip("this file system stores zeros as a hole")
        check_filled("weights", stream.fileno())
        os.truncate(path, 16_000_000)
        check_filled("weights", stream.fileno())  # is read within a moment
        os.truncate(path, 16_000_001)  # a folder may hold thousands of them
        with pytest.raises(UserError, match=r"of which only 10[\d,]+ bytes were ever written"):
            check_filled("weights", stream.fileno())
        with pytest.raises(UserError, match="ever written"):
            read_limited(path, 10**9)
        os.truncate(path, 10**12)
        with pytest.raises(UserError, match=r"weights: 1,000\.0 GB of which only 10[\d,]+ bytes were ever written, so"):
            check_filled("weights", stream.fileno())
        assert stream.tell() == 0
        os.truncate(path, 1_000_001)
        monkeypatch.setattr(regular_files, "ALWAYS_READ_BYTES", 0)
        check_filled("weights", stream.fileno(), largest_ratio=10)
        with pytest.raises(UserError, match="ever written"):
            check_filled("weights", stream.fileno(), largest_ratio=9)


def test_a_file_system_that_counts_no_blocks_is_asked_for_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fstat

    class Status:
        def __init__(self, handle: int) -> None:
            self.st_size, self.st_blocks, self.st_mode = 10**12, 0, real(handle).st_mode

    filled, hole = tmp_path / "filled", tmp_path / "hole"
    filled.write_bytes(b"1" * 5000)
    hole.touch()
    os.truncate(hole, 10**6)
    with filled.open("rb") as one, hole.open("rb") as other:
        monkeypatch.setattr(os, "fstat", Status)
        check_filled("filled", one.fileno())
        with pytest.raises(UserError, match="only 0 bytes were ever written"):
            check_filled("hole", other.fileno())
        monkeypatch.undo()


def test_a_link_that_leaves_its_folder_is_no_file_of_it(tmp_path: Path) -> None:
    study, elsewhere = tmp_path / "study", tmp_path / "elsewhere"
    study.mkdir()
    elsewhere.mkdir()
    (elsewhere / "secret").write_text("x")
    (study / "own").write_text("y")
    for name, target in (("file", elsewhere / "secret"), ("folder", elsewhere), ("gone", elsewhere / "gone")):
        (study / name).symlink_to(target)
    (study / "inside").symlink_to("own")
    (study / "itself").symlink_to("itself")
    (tmp_path / "typed").symlink_to(study)  # by whoever names the study
    for place in (study, tmp_path / "typed"):
        for name in ("own", "inside", "none", "itself"):
            check_inside(place, place / name)
        for name in ("file", "folder/secret", "folder/none", "gone"):
            with pytest.raises(UserError, match=f"{name}: a link to .*elsewhere.*, outside of .*; put a copy in its"):
                check_inside(place, place / name)


def test_a_default_place_is_where_its_name_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_default_place(Path("exports/one"))
    (tmp_path / "exports").symlink_to(tmp_path.parent)
    with pytest.raises(UserError, match=r"^exports: a link to .*; name the folder to write to with --output"):
        check_default_place(Path("exports/one"))
