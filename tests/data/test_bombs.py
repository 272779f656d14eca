"""Small files that unpack to gigabytes, whatever packs them, and files that are holes."""

import bz2
import gzip
import lzma
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tuneoff.data import bombs
from tuneoff.data.archives import open_split_files
from tuneoff.data.files import open_file
from tuneoff.errors import UserError

ROW = b'{"document": "a river rose by two metres", "summary": "water"}\n'


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the real ones, but a test need not write a gigabyte."""
    monkeypatch.setattr(bombs, "ALWAYS_READ_BYTES", 1_000_000)


def zstd(content: bytes) -> bytes:
    compressed: bytes = pytest.importorskip("zstandard").compress(content)
    return compressed


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd,
}


@pytest.mark.parametrize("suffix", PACKED)
def test_a_packed_file_is_read_up_to_a_ratio(suffix: str, tmp_path: Path) -> None:
    sound, bomb = tmp_path / f"a.jsonl.{suffix}", tmp_path / f"b.jsonl.{suffix}"
    sound.write_bytes(PACKED[suffix](ROW * 3))
    assert len(list(open_file(str(sound)).rows)) == 3
    bomb.write_bytes(PACKED[suffix](ROW + b" " * 3_000_000 + b"\n"))
    with pytest.raises(UserError, match=r"b\.jsonl.*: its [\d,]+ bytes unpack to more than .* holds no texts; write"):
        list(open_file(str(bomb)).rows)


def test_a_member_of_a_zip_archive_too(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("train.jsonl", ROW + b" " * 3_000_000)
    with pytest.raises(UserError, match=r"train\.jsonl: its [\d,]+ bytes unpack"):
        list(open_split_files(tmp_path / "a.zip", None)["train"][0].rows)


def test_a_hole_is_no_file_of_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(ROW)
    os.truncate(path, 10**12)
    if path.stat().st_blocks > 10**6:
        pytest.skip("this file system stores holes")
    with pytest.raises(UserError, match=r"a\.jsonl: 1,000\.0 GB of which only [\d,]+ bytes were ever written"):
        open_file(str(path))


def test_data_are_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(UserError, match=r"a\.jsonl: a named pipe, where a regular file was expected"):
        open_file(str(tmp_path / "a.jsonl"))
