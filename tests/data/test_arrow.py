"""Parquet files, and folders in the layout of `datasets.save_to_disk`."""

import contextlib
import json
import os
import signal
import struct
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tuneoff.data import arrow, arrow_check, load_dataset
from tuneoff.data.arrow import ROWS_PER_BATCH, open_saved_folder
from tuneoff.data.files import open_file
from tuneoff.data.source_table import SourceRow, UnreadableRow
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec


def save_split(folder: Path, shards: list[pa.Table]) -> None:
    folder.mkdir(parents=True)
    names = [f"data-{index:05d}-of-{len(shards):05d}.arrow" for index in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, shard.schema) as stream:
            stream.write_table(shard)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))


def pairs(*names: str) -> pa.Table:
    return pa.table({"article": [f"document {n}" for n in names], "highlights": [f"summary {n}" for n in names]})


def test_parquet_columns_of_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    stamp = datetime(2026, 1, 2, 3, 4, 5)
    table = pa.table(
        {
            "document": pa.array(["a", None]).dictionary_encode(),
            "summaries": pa.array([["x", "y"], None], pa.large_list(pa.large_string())),
            "year": [1999, None],
            "price": [Decimal("1.50"), None],
            "at": pa.array([stamp, None], pa.timestamp("ns")),
            "vector": [[0.5], None],
            "blob": [b"\x00", None],
            "nested": [{"a": 1}, None],
        }
    )
    parquet.write_table(table, path)
    first, second = open_file(str(path)).rows
    assert first.number == 1
    assert isinstance(first, SourceRow)
    assert first.values == {
        "document": "a",
        "summaries": ["x", "y"],
        "year": 1999,
        "price": "1.50",
        "at": "2026-01-02 03:04:05.000000000",
    }
    assert isinstance(second, SourceRow)
    assert set(second.values.values()) == {None}


def test_parquet_beyond_one_batch_keeps_row_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    count = 2 * ROWS_PER_BATCH + 3
    parquet.write_table(pa.table({"document": [str(n) for n in range(1, count + 1)]}), path)
    rows = list(open_file(str(path)).rows)
    assert [(row.number, row.values["document"]) for row in rows if isinstance(row, SourceRow)] == [
        (n, str(n)) for n in range(1, count + 1)
    ]


def test_parquet_text_that_is_not_utf8_costs_one_row(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    broken = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xe9c")]
    )
    parquet.write_table(pa.table({"document": broken}), path)
    assert list(open_file(str(path)).rows) == [
        SourceRow(1, {"document": "a"}),
        UnreadableRow(2, "not UTF-8"),
        SourceRow(3, {"document": "c"}),
    ]


def test_parquet_that_is_another_format_or_truncated(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_text('{"document": "a"}')
    with pytest.raises(UserError, match="not a Parquet file"):
        list(open_file(str(path)).rows)
    parquet.write_table(pairs("a"), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="not a Parquet file, or a damaged one"):
        list(open_file(str(path)).rows)


def test_saved_folder_with_splits_and_shards(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    save_split(folder / "train", [pairs("a", "b"), pairs("c")])
    save_split(folder / "val", [pairs("d")])
    save_split(folder / "test", [pairs("e")])
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "val", "test"]}')
    dataset = load_dataset(DataSpec(source=str(folder)))
    assert [example.document for example in dataset.train] == ["document a", "document b", "document c"]
    assert [example.references for example in dataset.validation] == [("summary d",)]
    assert [example.id for example in dataset.test] == ["test-1"]
    assert "(held out from train)" not in dataset.description


def test_saved_folder_without_splits_is_training_data(tmp_path: Path) -> None:
    save_split(tmp_path / "saved", [pairs(*"abcdefghij")])
    dataset = load_dataset(DataSpec(source=str(tmp_path / "saved")))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (8, 1, 1)


def test_saved_folder_of_the_library_itself(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    try:
        rows = {"document": ["a", "b", "c"], "summaries": [["x"], ["y", "z"], ["w"]]}
        datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "saved", num_shards=2)
    finally:
        datasets.enable_progress_bars()
    (table,) = open_saved_folder(tmp_path / "saved").values()
    assert [row.values["summaries"] for row in table.rows if isinstance(row, SourceRow)] == [["x"], ["y", "z"], ["w"]]


def test_saved_folder_cannot_point_outside_itself(tmp_path: Path) -> None:
    save_split(tmp_path / "elsewhere", [pairs("secret")])
    save_split(tmp_path / "saved", [pairs("a")])
    outside = "../elsewhere/data-00000-of-00002.arrow"
    (tmp_path / "saved" / "state.json").write_text(json.dumps({"_data_files": [{"filename": outside}]}))
    with pytest.raises(UserError, match="missing from the saved data set"):
        open_saved_folder(tmp_path / "saved")


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("state.json", "{", "cannot be read as JSON"),
        ("state.json", "[]", "does not list the data files"),
        ("dataset_dict.json", "{}", "does not list the splits"),
        ("dataset_dict.json", '{"splits": ["train"]}', "missing"),
        ("dataset_dict.json", '{"splits": ["test"]}', "missing"),
    ],
)
def test_saved_folder_that_is_damaged(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=sentence):
        load_dataset(DataSpec(source=str(tmp_path)))


def test_saved_folder_without_train_says_which_splits_there_are(tmp_path: Path) -> None:
    save_split(tmp_path / "saved" / "test", [pairs("a")])
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["test"]}')
    with pytest.raises(UserError, match=r"no split 'train' .*\(splits: test\)"):
        load_dataset(DataSpec(source=str(tmp_path / "saved")))


def test_arrow_file_that_is_damaged(tmp_path: Path) -> None:
    save_split(tmp_path / "saved", [pairs("a")])
    (file,) = (tmp_path / "saved").glob("*.arrow")
    file.write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="not an Arrow file of datasets"):
        load_dataset(DataSpec(source=str(tmp_path / "saved")))


def dictionary_bomb(path: Path) -> None:
    """One text of 5 MB in the file, two thousand times in the table."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["word " * 1_000_000]))
    parquet.write_table(pa.table({"document": texts, "summary": ["s"] * 2000}), path, compression="zstd")


def test_a_small_file_of_gigabytes_is_refused(tmp_path: Path) -> None:
    dictionary_bomb(tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 100_000
    with pytest.raises(UserError, match=r"a\.parquet: (its [\d,]+ bytes unpack to more than|damaged.* of memory)"):
        next(iter(open_file(str(tmp_path / "a.parquet")).rows))


def test_long_documents_are_read_in_smaller_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrow, "_BATCH_BYTES", 10_000)
    parquet.write_table(pa.table({"document": ["a" * 1000] * 50, "summary": ["b"] * 50}), tmp_path / "a.parquet")
    with parquet.ParquetFile(tmp_path / "a.parquet") as file:
        batches = list(arrow._parts(file.iter_batches()))
    assert [batch.num_rows for batch in batches] == [9, 9, 9, 9, 9, 5]
    assert len(list(open_file(str(tmp_path / "a.parquet")).rows)) == 50


def beyond_the_buffer(path: Path) -> None:
    """The last offset of a text points two gigabytes behind it: a reader that believes it is ended by the system."""
    content = bytearray(path.read_bytes())
    end = struct.pack("<i", 3 * len("document 0"))
    at = content.rindex(end)
    content[at : at + 4] = struct.pack("<i", 2**31 - 1)
    path.write_bytes(content)


def test_offsets_beyond_the_buffer_are_refused(tmp_path: Path) -> None:
    save_split(
        tmp_path / "a", [pa.table({"summary": ["x", "y", "z"], "document": [f"document {n}" for n in range(3)]})]
    )
    beyond_the_buffer(tmp_path / "a" / "data-00000-of-00001.arrow")
    with pytest.raises(UserError, match=r"arrow: damaged, or not a table of texts.*; write it again"):
        list(open_saved_folder(tmp_path / "a")["train"].rows)


def test_a_crash_of_the_library_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet.write_table(pairs("0"), tmp_path / "a.parquet")
    monkeypatch.setattr(arrow_check, "check_batch", lambda batch: os.kill(os.getpid(), signal.SIGBUS))
    with pytest.raises(UserError, match=r"makes the library that reads it crash \(SIGBUS\); write it again"):
        list(open_file(str(tmp_path / "a.parquet")).rows)


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("sound")
    parquet.write_table(pairs(*"0123456789"), folder / "a.parquet", compression="zstd")
    save_split(folder / "a", [pairs(*"0123456789")])
    return {
        "parquet": (folder / "a.parquet").read_bytes(),
        "arrow": (folder / "a" / "data-00000-of-00001.arrow").read_bytes(),
    }


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_bytes_are_read_or_refused(data: st.DataObject, sound_files: dict[str, bytes], tmp_path: Path) -> None:
    kind = data.draw(st.sampled_from(["parquet", "arrow"]))
    content = bytearray(sound_files[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 9))
        new = data.draw(
            st.binary(min_size=1, max_size=8) | st.integers(-(2**63), 2**63 - 1).map(struct.Struct("<q").pack)
        )
        content[at : at + len(new)] = new
    with contextlib.suppress(UserError):
        if kind == "parquet":
            (tmp_path / "a.parquet").write_bytes(content)
            list(open_file(str(tmp_path / "a.parquet")).rows)
        else:
            (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "a.arrow"}]}')
            (tmp_path / "a.arrow").write_bytes(content)
            list(open_saved_folder(tmp_path)["train"].rows)


def test_without_pyarrow_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        UserError, match=r"a\.parquet: reading Parquet and Arrow needs pyarrow; run pip install 'tuneoff\["
    ):
        list(open_file(str(path)).rows)
