"""Rows in memory become a JSONL file that loads like any other."""

import json
import os
import stat
from collections import UserDict
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.data_files import pair
from tuneoff.data import load_dataset, write_rows
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec


def written(rows: object, folder: Path) -> list[Any]:
    return [json.loads(line) for line in write_rows(rows, folder).read_bytes().splitlines()]


def test_rows_load_like_those_of_a_file(tmp_path: Path) -> None:
    rows = [pair(n, id=f"d{n}", year=1990 + n) for n in range(20)]
    plain = tmp_path / "plain.jsonl"
    plain.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = load_dataset(DataSpec(train_file=str(write_rows(rows, tmp_path / "new" / "folder"))))
    assert made.content_hash == load_dataset(DataSpec(train_file=str(plain))).content_hash


def test_equal_rows_give_one_file_whatever_the_order_of_keys(tmp_path: Path) -> None:
    one = write_rows([{"document": "é\u2028", "summary": "s"}], tmp_path)
    first = one.read_bytes()
    again = write_rows(iter([UserDict({"summary": "s", "document": "é\u2028"})]), tmp_path)
    other = write_rows([{"document": "d", "summary": "t"}], tmp_path)
    assert one == again != other
    assert again.read_bytes() == first
    assert one.name.startswith("rows-")
    assert sorted(tmp_path.iterdir()) == sorted([one, other])


class Picture:
    """A value that no data file holds."""


def test_values_of_every_kind(tmp_path: Path) -> None:
    NAType = type("NAType", (), {})
    row = {
        "document": np.str_("d"),
        "summary": ("a", np.str_("b")),
        "count": np.int64(3),
        "good": np.bool_(True),
        "half": np.float32(0.5),
        "missing": [None, float("nan"), np.float64("nan"), NAType(), np.datetime64("NaT")],
        "infinite": float("inf"),
        "array": np.array([1, 2]),
        "day": date(2026, 1, 2),
        "moment": datetime(2026, 1, 2, 3, 4, 5),
        "nanosecond": np.datetime64("2026-01-02T03:04:05.000000006", "ns"),
        "price": Decimal("1.50"),
        7: "a column without a text as its name",
        "picture": Picture(),
        "pictures": [Picture()],
        "nested": {"a": 1, "picture": Picture()},
        "only": {"picture": Picture()},
        "bytes": b"x",
    }
    assert written([row], tmp_path) == [
        {
            "document": "d",
            "summary": ["a", "b"],
            "count": 3,
            "good": True,
            "half": 0.5,
            "missing": [None] * 5,
            "infinite": "inf",
            "array": [1, 2],
            "day": "2026-01-02",
            "moment": "2026-01-02 03:04:05",
            "nanosecond": "2026-01-02T03:04:05.000000006",
            "price": "1.50",
            "7": "a column without a text as its name",
            "nested": {"a": 1},
        }
    ]


class PandasLike:
    """The part of a pandas `DataFrame` that is used. Iterating over one yields the names of its columns."""

    iloc = None

    def __init__(self, columns: list[str], *rows: list[Any]) -> None:
        self.columns, self._rows = columns, rows

    def __iter__(self) -> Any:
        return iter(self.columns)

    def to_dict(self, orient: str) -> list[dict[str, Any]]:
        assert orient == "records"
        return [dict(zip(self.columns, row, strict=True)) for row in self._rows]


def test_a_data_frame(tmp_path: Path) -> None:
    frame = PandasLike(["document", "summary", "year"], ["d", "s", 1999.0], ["e", "t", float("nan")])
    assert written(frame, tmp_path) == [
        {"document": "d", "summary": "s", "year": 1999.0},
        {"document": "e", "summary": "t", "year": None},
    ]
    with pytest.raises(UserError, match="'text' appears twice in the DataFrame"):
        write_rows(PandasLike(["text", "text"]), tmp_path)


def test_a_data_frame_of_pandas_itself(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    stamp = datetime(2026, 1, 2)
    frame = pandas.DataFrame({"document": ["d", None], "year": [1, None], "at": [stamp, None]}, index=[5, 9])
    frame["whole"] = pandas.array([1, None], dtype="Int64")
    assert written(frame, tmp_path) == [
        {"document": "d", "year": 1.0, "at": "2026-01-02 00:00:00", "whole": 1},
        {"document": None, "year": None, "at": None, "whole": None},
    ]


def test_a_data_frame_of_polars(tmp_path: Path) -> None:
    class PolarsLike:
        def to_dict(self) -> dict[str, list[str]]:
            raise AssertionError("columns were asked for, not rows")

        def iter_rows(self, named: bool) -> Any:
            assert named
            return iter([{"document": "d"}])

    assert written(PolarsLike(), tmp_path) == [{"document": "d"}]


def test_a_dataset_of_the_hub_library(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"document": ["a", "b"], "summaries": [["x"], ["y", "z"]]})
    expected = [{"document": "a", "summaries": ["x"]}, {"document": "b", "summaries": ["y", "z"]}]
    assert written(rows, tmp_path) == expected
    with pytest.raises(UserError, match=r"one mapping \(keys: 'train'\).*give one split"):
        write_rows(datasets.DatasetDict({"train": rows}), tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([pair(1), ("document", "summary")], "row 2 of the data is of type tuple"),
        ([pair(1), pair(2), "text"], "row 3 of the data is of type str"),
        ([{"7": "a", 7: "b"}], "row 1 of the data has two columns of the same name"),
        ([], "the data has no rows"),
        ("train.jsonl", "'train.jsonl' is not a list of rows; name a data file with train_file"),
        ({"document": ["a"], "summary": ["b"]}, r"one mapping \(keys: 'document', 'summary'\)"),
        (7, "data of type int has no rows"),
    ],
)
def test_other_things_are_refused_and_leave_no_file(tmp_path: Path, rows: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        write_rows(rows, tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written there .*; choose another folder"):
        write_rows([pair(1)], tmp_path / "file")


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_only_the_user_can_read_the_rows(tmp_path: Path) -> None:
    assert stat.S_IMODE(write_rows([pair(0)], tmp_path / "rows").parent.stat().st_mode) == 0o700
