"""Rows that processes append are found again by all of them, and damaged ones never."""

import hashlib
from pathlib import Path

import pytest

from tuneoff import cache, row_cache
from tuneoff.row_cache import RowCache, damaged_row_files


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))


def digest(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def fill(count: int, key: str = "key") -> RowCache:
    rows = RowCache(key)
    for number in range(count):
        assert rows.add(digest(number), bytes([number]) * 100, 0.5)
    return rows


def files() -> list[Path]:
    return sorted((cache.cache_folder() / cache.ROWS).glob("*"))


def contents(rows: RowCache, count: int) -> list[bytes | None]:
    found = [rows.get(digest(number)) for number in range(count)]
    return [None if row is None else row.content for row in found]


def test_rows_are_read_by_their_writer_and_by_others() -> None:
    mine = fill(3)
    assert mine.get(digest(3)) is None
    for rows, written_here in ((mine, True), (RowCache("key"), False)):
        for number in range(3):
            found = rows.get(digest(number))
            assert found is not None
            assert (found.content, found.seconds) == (bytes([number]) * 100, 0.5)
            assert found.written_here is written_here
    assert len(RowCache("another key")) == 0


def test_two_writers_do_not_meet() -> None:
    one, other = RowCache("key"), RowCache("key")
    assert one.add(digest(0), b"zero", 1.0)
    assert other.add(digest(1), b"one", 1.0)
    assert len(files()) == 2
    assert contents(RowCache("key"), 2) == [b"zero", b"one"]


def test_a_row_is_written_once() -> None:
    rows = fill(1)
    size = files()[0].stat().st_size
    assert rows.add(digest(0), b"other", 1.0)
    assert files()[0].stat().st_size == size


def test_every_changed_byte_is_noticed() -> None:
    fill(2)
    [path] = files()
    whole = path.read_bytes()
    assert list(damaged_row_files()) == []
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        for number, content in enumerate(contents(RowCache("key"), 2)):
            assert content in (None, bytes([number]) * 100)
        assert contents(RowCache("key"), 2) != [bytes(100), b"\1" * 100], place


def test_a_file_that_was_cut_keeps_its_whole_rows() -> None:
    fill(3)
    [path] = files()
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        found = contents(RowCache("key"), 3)
        kept = [content for content in found if content is not None]
        assert found == [bytes([number]) * 100 for number in range(len(kept))] + [None] * (3 - len(kept))


def test_a_damaged_file_is_named() -> None:
    fill(2)
    [path] = files()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert list(damaged_row_files()) == [path]


@pytest.mark.parametrize("limit", ["_MAX_BYTES", "_MIN_FREE_BYTES"])
def test_a_full_cache_only_costs_time(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(row_cache, limit, 300 if limit == "_MAX_BYTES" else 10**18)
    rows = RowCache("key")
    added = [rows.add(digest(number), bytes(100), 1.0) for number in range(4)]
    assert added == ([True, False, False, False] if limit == "_MAX_BYTES" else [False] * 4)


def test_a_folder_that_cannot_be_written_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "file"))
    rows = RowCache("key")
    assert not rows.add(digest(0), b"zero", 1.0)
    assert rows.get(digest(0)) is None


def test_files_count_among_what_is_deleted_first(monkeypatch: pytest.MonkeyPatch) -> None:
    first = fill(2, "first")
    monkeypatch.setattr(cache, "MAX_BYTES", 100)
    fill(1, "second")
    assert [path.name.split(".")[0] for path in files()] == ["second"]
    assert contents(first, 2) == [bytes(100), b"\1" * 100]  # an open file can still be read
