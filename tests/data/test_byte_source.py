"""Bytes of data files: compressed ones, members of archives, and what a damaged one says."""

import gzip
import json
import lzma
import sys
import zipfile
from pathlib import Path

import pytest

from tuneoff.data.byte_source import data_suffix, file_source, zip_sources
from tuneoff.errors import UserError


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.JSONL", ".jsonl"),
        ("b/a.csv.GZ", ".csv"),
        ("a.gz", ""),
        ("a.tar.gz", ".tar"),
        ("a", ""),
        ("a.csv.zst", ".csv"),
    ],
)
def test_the_extension_is_the_one_before_that_of_the_compression(name: str, suffix: str) -> None:
    assert data_suffix(name) == suffix


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_a_compressed_file_that_is_cut_off_is_named(tmp_path: Path, compress) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(compress(b"".join(b"%d %d\n" % (n, n * n) for n in range(5000)))[:-200])
    source = file_source(path)
    with (
        pytest.raises(UserError, match=r"a\.jsonl: the compressed file is damaged or incomplete"),
        source.text("utf-8", newline=None) as stream,
    ):
        list(stream)


def test_zst_needs_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd rest")
    with pytest.raises(UserError, match="needs the package zstandard; run `pip install zstandard`"):
        _ = file_source(path).start


def test_members_of_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/", "")
        archive.writestr("x/a.csv", "text")
    (source,) = zip_sources(path)
    assert (source.name, source.start, source.suffix) == (f"{path}/x/a.csv", b"text", ".csv")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="damaged or incomplete"):
        zip_sources(path)


def test_a_member_of_a_zip_archive_may_be_packed_by_zstd(tmp_path: Path) -> None:
    """As inspect_ai writes its logs; Python reads that from version 3.14 on."""
    real = Path(__file__).parents[1] / "fixtures" / "scores" / "inspect" / "good.eval"
    with zipfile.ZipFile(real) as archive:
        assert {info.compress_type for info in archive.infolist()} == {93}
    [header] = [source for source in zip_sources(real) if source.name.endswith("/header.json")]
    with header.open() as stream:
        assert json.loads(stream.read())["eval"]["model"] == "mockllm/good"
