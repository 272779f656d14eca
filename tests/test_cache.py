"""Cache files are found by their keys, ignored if anything about them is wrong, and never required."""

import multiprocessing
import os
import tempfile
from pathlib import Path
from typing import IO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuneoff import cache
from tuneoff.cache import CachedFile, CacheWriter, cache_folder, cache_key, open_cached, read_answer, write_answer
from tuneoff.errors import UserError

KIND = "tokens"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))


def write_file(key: str | None, body: bytes = b"body", **tables: bytes) -> CachedFile:
    with CacheWriter(KIND, key) as writer:
        for at in range(0, len(body), 3):
            writer.append(body[at : at + 3])
        return writer.finish(tables or {"table": b"12345678"})


def files() -> list[Path]:
    return [path for path in cache_folder().rglob("*") if path.is_file()]


def test_the_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("TUNEOFF_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tuneoff"


def test_a_finished_file_is_found() -> None:
    key = cache_key(a=1, b=["x"])
    assert key == cache_key(b=["x"], a=1) != cache_key(a=2, b=["x"])
    assert open_cached(KIND, key) is None
    made = write_file(key, b"0123456789", one=b"a", two=b"")
    found = open_cached(KIND, key)
    assert found is not None
    for cached in (made, found):
        assert cached.tables == {"one": b"a", "two": b""}
        assert (cached.read(0, 10), cached.read(7, 2)) == (b"0123456789", b"78")
    assert open_cached("examples", key) is None
    assert [path.name for path in files()] == [key]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.data())
def test_a_file_with_any_byte_changed_or_any_end_lost_is_ignored(data: st.DataObject) -> None:
    key = cache_key(of="damage")
    write_file(key)
    (path,) = files()
    whole = path.read_bytes()
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(whole) - 1))
        other = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[at]))
        damaged = whole[:at] + bytes([other]) + whole[at + 1 :]
        # White space between the parts of the header has no meaning.
        harmless = at < 1024 and {other, whole[at]} <= set(b" \t\r\n")
    else:
        damaged, harmless = whole[: data.draw(st.integers(0, len(whole) - 1))], False
    path.write_bytes(damaged)
    assert (open_cached(KIND, key) is None) or harmless
    write_file(key)
    assert open_cached(KIND, key) is not None


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[" * 1024,
        b"[]",
        b"\xff",
        b'{"format": 1}',
        b'{"format": 1, "kind": "tokens", "key": "KEY", "body": 1e999, "tables": {}}',
        b'{"format": 1, "kind": "tokens", "key": "KEY", "body": -1, "tables": {"x": 1}}',
        b'{"format": 1, "kind": "tokens", "key": "KEY", "body": 0, "tables": []}',
    ],
)
def test_a_foreign_file_is_ignored(header: bytes) -> None:
    key = cache_key(of="foreign")
    path = cache_folder() / KIND / key
    path.parent.mkdir(parents=True)
    path.write_bytes(header.replace(b"KEY", key.encode()).ljust(1024))
    assert open_cached(KIND, key) is None


def test_a_file_with_the_key_of_another_is_ignored() -> None:
    one, other = cache_key(of=1), cache_key(of=2)
    write_file(one)
    (cache_folder() / KIND / one).rename(cache_folder() / KIND / other)
    assert open_cached(KIND, other) is None


def test_an_unfinished_file_is_deleted() -> None:
    def fail() -> None:
        with CacheWriter(KIND, cache_key()) as writer:
            writer.append(b"half")
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        fail()
    assert files() == []


def test_without_keep_only_this_process_can_read() -> None:
    with CacheWriter(KIND, cache_key()) as writer:
        writer.append(b"abc")
        cached = writer.finish({"table": b""}, keep=False)
    assert cached.read(1, 2) == b"bc"
    assert files() == []


def test_without_a_key_nothing_is_written() -> None:
    assert write_file(None, b"abc").read(0, 3) == b"abc"
    assert files() == []


def test_a_cache_that_cannot_be_made_is_not_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "file"))
    assert write_file(cache_key(), b"abc").read(0, 3) == b"abc"


def test_a_disk_that_fills_up_on_the_way_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    write, room = cache._write_all, 1024 + 5

    def full(file: IO[bytes], data: bytes) -> None:
        nonlocal room
        if isinstance(file, tempfile.SpooledTemporaryFile):
            write(file, data)
            return
        write(file, data[:room])
        if len(data) > room:
            raise OSError(28, "No space left on device")
        room -= len(data)

    monkeypatch.setattr(cache, "_write_all", full)
    key = cache_key()
    cached = write_file(key, b"0123456789")
    assert cached.read(0, 10) == b"0123456789"
    assert cached.tables == {"table": b"12345678"}
    assert files() == []


def test_the_least_recently_used_file_is_deleted_first(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [cache_key(of=number) for number in range(4)]
    size = 1024 + 100 + 8
    held = []
    monkeypatch.setattr(cache, "MAX_BYTES", 3 * size)
    for age, key in enumerate(keys[:3]):
        held.append(write_file(key, bytes(100)))
        os.utime(cache_folder() / KIND / key, (age, age))
    assert open_cached(KIND, keys[0]) is not None  # now the most recently used
    write_file(keys[3], bytes(100))
    assert {path.name for path in files()} == {keys[0], keys[2], keys[3]}
    assert held[1].read(0, 100) == bytes(100)  # an open file can still be read
    monkeypatch.setattr(cache, "MAX_BYTES", 1)
    write_file(keys[1], bytes(100))
    assert {path.name for path in files()} == {keys[1]}


def _write_repeatedly(key: str) -> bool:
    for _ in range(30):
        write_file(key, bytes(range(256)) * 40)
        found = open_cached(KIND, key)
        if found is None or found.read(0, 256) != bytes(range(256)):
            return False
    return True


def test_several_processes_can_write_the_same_file() -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.map(_write_repeatedly, [cache_key(of="all")] * 3) == [True] * 3
    assert len(files()) == 1


def test_a_user_without_a_home_gets_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TUNEOFF_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(UserError, match="set TUNEOFF_CACHE"):
        cache_folder()


def test_an_answer_is_found_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = cache_key(question="rows")
    assert read_answer(KIND, key) is None
    write_answer(KIND, key, {"rows": 7, "note": None})
    assert read_answer(KIND, key) == {"rows": 7, "note": None}
    write_file(key)
    assert read_answer(KIND, key) is None  # a file, but no answer
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "file"))
    write_answer(KIND, key, {"rows": 7})
    assert read_answer(KIND, key) is None


def test_what_never_ends_has_no_digest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "hole").touch()
    os.truncate(tmp_path / "hole", 10**13)
    for name, kind in (("pipe", "a named pipe"), ("hole", "10,000.0 GB of which only 0 bytes were ever written")):
        with pytest.raises(UserError, match=f"{name}: {kind}"):
            cache.file_digest(tmp_path / name)
