"""JSON files: written as a whole or not at all, with numbers that JSON can express; damage has a path and a line."""

import json
import math
import os
import stat
from pathlib import Path

import pytest
from pydantic import BaseModel

from tuneoff.errors import UserError
from tuneoff.results import json_files
from tuneoff.results.json_files import (
    TEMPORARY_PREFIX,
    finite_or_none,
    json_text,
    jsonl_text,
    new_file_mode,
    parse_json,
    parse_jsonl,
    remove_temporary_files,
    write_text_atomic,
)


class Row(BaseModel):
    name: str
    value: float | None = None


def test_what_is_not_finite_becomes_none() -> None:
    value = {"a": math.nan, "b": [1.5, math.inf, (-math.inf, 2)], "c": {"d": "nan", "e": True, "f": None}}
    assert finite_or_none(value) == {"a": None, "b": [1.5, None, [None, 2]], "c": {"d": "nan", "e": True, "f": None}}


def test_files_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "row.json"
    write_text_atomic(path, json_text(Row(name="Ünï\u2028", value=0.1)))
    assert parse_json(path.read_bytes(), path, Row, "way out") == Row(name="Ünï\u2028", value=0.1)
    assert "Ünï" in path.read_text(encoding="utf-8")
    write_text_atomic(path, json_text({"name": "x", "value": math.nan}))
    assert parse_json(path.read_bytes(), path, Row, "way out") == Row(name="x")
    rows = [Row(name="a\u2028\n"), Row(name="b", value=math.inf)]
    assert parse_jsonl(jsonl_text(rows).encode(), path, Row) == [rows[0], Row(name="b")]
    assert parse_jsonl(b"", path, Row) == []


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "row.json"
    write_text_atomic(path, json_text(Row(name="old")))

    def refuse(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=r"disk is full: \d+ bytes are needed and [\d,]+ bytes are free.*row\.json"):
        write_text_atomic(path, json_text(Row(name="new")))
    assert [each.name for each in tmp_path.iterdir()] == ["row.json"]
    assert json.loads(path.read_text())["name"] == "old"


def test_files_have_the_permissions_of_the_user(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text_atomic(tmp_path / "a", "x\ny\n")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert (tmp_path / "a").read_bytes() == b"x\ny\n"


def test_the_umask_of_the_process_is_never_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To read it, one sets it, and files that other threads make meanwhile get what was set."""

    def refuse(_mask: int) -> int:
        pytest.fail("the umask was set")

    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", refuse)
            write_text_atomic(tmp_path / "a", "x")
            assert new_file_mode(tmp_path) == 0o640
    finally:
        os.umask(before)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_link_is_replaced_and_its_target_stays(tmp_path: Path) -> None:
    (tmp_path / "private").write_text("precious")
    (tmp_path / "row.json").symlink_to("private")
    write_text_atomic(tmp_path / "row.json", json_text(Row(name="new")))
    assert (tmp_path / "private").read_text() == "precious"
    assert not (tmp_path / "row.json").is_symlink()


def test_the_rename_is_synced_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(stat.S_ISDIR(os.fstat(handle).st_mode)))
    write_text_atomic(tmp_path / "a", "x")
    assert synced == [False, True]


def test_a_name_of_any_length_that_the_system_takes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write_text_atomic(path, "x")
    assert path.read_text() == "x"


def test_only_temporary_files_of_tuneoff_are_removed(tmp_path: Path) -> None:
    for name in (f"{TEMPORARY_PREFIX}0123", ".hidden", "tuneoff-notes"):
        (tmp_path / name).write_text("x")
    remove_temporary_files([tmp_path, tmp_path / "missing"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "tuneoff-notes"]


@pytest.mark.parametrize("content", [b"", b"{", b"7", b'{"name": 3}', b'{"name": "\xff"}', b"[" * 100_000])
def test_a_damaged_file_ends_in_the_way_out(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "row.json"
    with pytest.raises(UserError, match=r"row\.json: damaged .*; try this$"):
        parse_json(content, path, Row, "try this")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "not JSON"),
        (b'"x"', "not a JSON object"),
        (b'{"name": "\xff"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_damaged_line_has_its_number(tmp_path: Path, line: bytes, why: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"name": "a"}\n\n' + line + b"\n")
    with pytest.raises(UserError, match=rf"rows\.jsonl, line 3: {why}"):
        parse_jsonl(path.read_bytes(), path, Row)
    path.write_bytes(b'{"name": 3}\n')
    with pytest.raises(UserError, match=r"rows\.jsonl: damaged or written by another version"):
        parse_jsonl(path.read_bytes(), path, Row)


def test_files_that_would_fill_the_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"row\.json: 17 MB, which no such file of tuneoff has; restore it"):
        parse_json(b"[" * 17_000_000, tmp_path / "row.json", Row, "restore it")
    monkeypatch.setattr(json_files, "_MOST_ROWS", 2)
    line = b'{"name": "a"}\n'
    assert len(parse_jsonl(line * 2, tmp_path / "rows.jsonl", Row)) == 2
    with pytest.raises(UserError, match=r"rows\.jsonl: 3 rows, and at most 2 are read"):
        parse_jsonl(line * 3, tmp_path / "rows.jsonl", Row)
    monkeypatch.setattr(json_files, "MOST_OBJECT_BYTES", len(line) - 1)
    assert len(parse_jsonl(line * 2, tmp_path / "rows.jsonl", Row)) == 2
    with pytest.raises(UserError, match=r"rows\.jsonl, line 2: .* MB, which no line of such a file has"):
        parse_jsonl(line + bytes(len(line)), tmp_path / "rows.jsonl", Row)
