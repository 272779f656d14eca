"""Reading of `.zst`: every frame, and nothing of a file that is cut off without an error."""

from pathlib import Path

import pytest

from tuneoff.data.byte_source import file_source
from tuneoff.errors import UserError

zstandard = pytest.importorskip("zstandard")
LINES = b"".join(b"%d\n" % number for number in range(30000))


def read(path: Path) -> bytes:
    with file_source(path).text("utf-8", newline=None) as stream:
        return stream.read().encode()


@pytest.mark.parametrize("frames", [1, 3])
def test_all_frames_are_read(tmp_path: Path, frames: int) -> None:
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(zstandard.compress(LINES) * frames)
    assert read(path) == LINES * frames


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda content: content[:4000] + b"x" * 4000])
def test_a_damaged_file_is_named(tmp_path: Path, damage) -> None:
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(damage(zstandard.compress(LINES)))
    with pytest.raises(UserError, match=r"a\.jsonl\.zst: the compressed file is damaged or incomplete"):
        read(path)
