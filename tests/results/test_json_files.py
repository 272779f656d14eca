"""JSON files: written as a whole or not at all, with numbers that JSON can express; damage has a path and a line."""

import json
import math
import os
import stat
from pathlib import Path

import pytest
from pydantic import BaseModel

from tuneoff.errors import UserError
from tuneoff.results.json_files import finite_or_none, read_json, read_jsonl, write_json, write_jsonl, write_text_atomic


class Row(BaseModel):
    name: str
    value: float | None = None


def test_what_is_not_finite_becomes_none() -> None:
    value = {"a": math.nan, "b": [1.5, math.inf, (-math.inf, 2)], "c": {"d": "nan", "e": True, "f": None}}
    assert finite_or_none(value) == {"a": None, "b": [1.5, None, [None, 2]], "c": {"d": "nan", "e": True, "f": None}}


def test_files_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "row.json"
    assert read_json(path, Row, "way out") is None
    write_json(path, Row(name="Ünï\u2028", value=0.1))
    assert read_json(path, Row, "way out") == Row(name="Ünï\u2028", value=0.1)
    assert "Ünï" in path.read_text(encoding="utf-8")
    write_json(path, {"name": "x", "value": math.nan})
    assert read_json(path, Row, "way out") == Row(name="x")
    rows = [Row(name="a\u2028\n"), Row(name="b", value=math.inf)]
    assert read_jsonl(path.with_suffix(".jsonl"), Row) == []
    write_jsonl(path.with_suffix(".jsonl"), rows)
    assert read_jsonl(path.with_suffix(".jsonl"), Row) == [rows[0], Row(name="b")]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "row.json"
    write_json(path, Row(name="old"))

    def refuse(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        write_json(path, Row(name="new"))
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


@pytest.mark.parametrize("content", [b"", b"{", b"7", b'{"name": 3}', b'{"name": "\xff"}', b"[" * 100_000])
def test_a_damaged_file_ends_in_the_way_out(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "row.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"row\.json: damaged .*; try this$"):
        read_json(path, Row, "try this")


def test_a_folder_in_place_of_a_file_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "row.json").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path / "row.json", Row, "try this")


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
        read_jsonl(path, Row)
    path.write_bytes(b'{"name": 3}\n')
    with pytest.raises(UserError, match=r"rows\.jsonl: damaged or written by another version"):
        read_jsonl(path, Row)
