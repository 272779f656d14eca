"""What is kept is found by its key, never taken when anything about it is wrong, and never needed."""

import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuneoff import cache
from tuneoff.cache import Keeper, Kept, cache_folder, find, key_of
from tuneoff.errors import UserError

KIND = "tokens"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))


def keep(key: str | None, body: bytes = b"body", **tables: bytes) -> Kept:
    with Keeper(KIND, key) as keeper:
        for at in range(0, len(body), 3):
            keeper.append(body[at : at + 3])
        return keeper.finish(tables or {"table": b"12345678"})


def files() -> list[Path]:
    return [path for path in cache_folder().rglob("*") if path.is_file()]


def test_the_folder_is_the_users_to_choose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("TUNEOFF_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tuneoff"


def test_another_process_finds_what_was_kept() -> None:
    key = key_of(a=1, b=["x"])
    assert key == key_of(b=["x"], a=1) != key_of(a=2, b=["x"])
    assert find(KIND, key) is None
    made = keep(key, b"0123456789", one=b"a", two=b"")
    found = find(KIND, key)
    assert found is not None
    for kept in (made, found):
        assert kept.tables == {"one": b"a", "two": b""}
        assert (kept.read(0, 10), kept.read(7, 2)) == (b"0123456789", b"78")
    assert find("examples", key) is None
    assert [path.name for path in files()] == [key]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.data())
def test_a_file_with_any_byte_changed_or_any_end_lost_is_made_anew(data: st.DataObject) -> None:
    key = key_of(of="damage")
    keep(key)
    (path,) = files()
    whole = path.read_bytes()
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(whole) - 1))
        other = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[at]))
        damaged = whole[:at] + bytes([other]) + whole[at + 1 :]
        # White space between the parts of the header says nothing.
        harmless = at < 1024 and {other, whole[at]} <= set(b" \t\r\n")
    else:
        damaged, harmless = whole[: data.draw(st.integers(0, len(whole) - 1))], False
    path.write_bytes(damaged)
    assert (find(KIND, key) is None) or harmless
    keep(key)
    assert find(KIND, key) is not None


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
def test_a_foreign_file_is_not_taken(header: bytes) -> None:
    key = key_of(of="foreign")
    place = cache_folder() / KIND / key
    place.parent.mkdir(parents=True)
    place.write_bytes(header.replace(b"KEY", key.encode()).ljust(1024))
    assert find(KIND, key) is None


def test_a_file_under_another_files_key_is_not_taken() -> None:
    one, other = key_of(of=1), key_of(of=2)
    keep(one)
    (cache_folder() / KIND / one).rename(cache_folder() / KIND / other)
    assert find(KIND, other) is None


def test_what_was_not_finished_leaves_nothing() -> None:
    def fail() -> None:
        with Keeper(KIND, key_of()) as keeper:
            keeper.append(b"half")
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        fail()
    assert files() == []


def test_what_shall_not_be_kept_serves_this_process() -> None:
    with Keeper(KIND, key_of()) as keeper:
        keeper.append(b"abc")
        kept = keeper.finish({"table": b""}, keep=False)
    assert kept.read(1, 2) == b"bc"
    assert files() == []


def test_without_a_key_nothing_is_written() -> None:
    assert keep(None, b"abc").read(0, 3) == b"abc"
    assert files() == []


def test_a_cache_that_cannot_be_made_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "file"))
    assert keep(key_of(), b"abc").read(0, 3) == b"abc"


def test_a_disk_that_fills_up_on_the_way_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    write, room = cache._write_all, 1024 + 5

    def full(file, data: bytes) -> None:
        nonlocal room
        if isinstance(file, cache.tempfile.SpooledTemporaryFile):
            write(file, data)
            return
        write(file, data[:room])
        if len(data) > room:
            raise OSError(28, "No space left on device")
        room -= len(data)

    monkeypatch.setattr(cache, "_write_all", full)
    key = key_of()
    kept = keep(key, b"0123456789")
    assert kept.read(0, 10) == b"0123456789"
    assert kept.tables == {"table": b"12345678"}
    assert files() == []


def test_what_was_not_used_for_longest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [key_of(of=number) for number in range(4)]
    size = 1024 + 100 + 8
    held = []
    monkeypatch.setattr(cache, "MAX_BYTES", 3 * size)
    for age, key in enumerate(keys[:3]):
        held.append(keep(key, bytes(100)))
        os.utime(cache_folder() / KIND / key, (age, age))
    assert find(KIND, keys[0]) is not None  # so it is the one used last
    keep(keys[3], bytes(100))
    assert {path.name for path in files()} == {keys[0], keys[2], keys[3]}
    assert held[1].read(0, 100) == bytes(100)  # who has it open keeps it
    monkeypatch.setattr(cache, "MAX_BYTES", 1)
    keep(keys[1], bytes(100))
    assert {path.name for path in files()} == {keys[1]}


def _make_often(key: str) -> bool:
    for _ in range(30):
        keep(key, bytes(range(256)) * 40)
        found = find(KIND, key)
        if found is None or found.read(0, 256) != bytes(range(256)):
            return False
    return True


def test_processes_that_make_the_same_do_not_hurt_each_other() -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.map(_make_often, [key_of(of="all")] * 3) == [True] * 3
    assert len(files()) == 1


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TUNEOFF_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(UserError, match="set TUNEOFF_CACHE"):
        cache_folder()
