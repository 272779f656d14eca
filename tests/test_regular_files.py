"""Only regular files are opened, and nothing that could block or never end."""

import os
import socket
from pathlib import Path

import pytest

from tuneoff.errors import UserError
from tuneoff.regular_files import open_regular, read_limited


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
