"""A file before its format is known."""

import gzip
import json
from pathlib import Path

import pytest

from tuneoff.errors import UserError
from tuneoff.scores.score_file import ScoreFile, folder_of


def test_the_first_object_of_a_json_file(tmp_path: Path) -> None:
    line = json.dumps({"a": 1})
    (tmp_path / "a.jsonl").write_text(f"\ufeff{line}\n{line}\n", encoding="utf-8")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(line.encode()))
    (tmp_path / "c.csv").write_text("a\n1\n")
    (tmp_path / "d.json").write_text("[" * 10_000)
    (tmp_path / "e.json").write_text('{"a": ' * 10_000)
    (tmp_path / "f.jsonl").write_text("{not json}\n")
    found = {path.name: dict(ScoreFile(str(path)).first) for path in tmp_path.iterdir()}
    whole = {"a.jsonl": {"a": 1}, "b.jsonl.gz": {"a": 1}}
    assert found == {**whole, "c.csv": {}, "d.json": {}, "e.json": {}, "f.jsonl": {}}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("a\n1\n")
    with pytest.raises(UserError, match=r"score\.csv: there is no such file; did you mean 'scores\.csv'"):
        ScoreFile(str(tmp_path / "score.csv"))


def test_a_damaged_row_is_refused_with_its_line_and_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(UserError, match=r"a\.jsonl:2: not JSON .*; write one complete JSON object per line"):
        list(ScoreFile(str(path)).rows())


def test_the_folder_of_a_file(tmp_path: Path) -> None:
    assert folder_of(tmp_path / "model" / "a.jsonl") == "model"
