"""Examples on the disk are the examples that were read: same order, same choices, same hash, cleaned once."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuneoff import cache
from tuneoff.data import Dataset, Example, load, take_fraction
from tuneoff.data.clean import Cleaner
from tuneoff.data.splits import cut_off, first_groups, first_of
from tuneoff.data.store import Examples, Rows
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec

HOSTILE = ['"], ["', "\\", "\u2028\u0085", "😀é", '\\"], [\\"', "<|end|>", "\x01\x7f", "[]", "a\nb\r\tc"]


def write(path: Path, count: int) -> str:
    """Rows with fields that do not stand in alphabetical order, several references, and texts that look like JSON."""
    with path.open("w", encoding="utf-8") as out:
        for n in range(count):
            row: dict[str, Any] = {"zeta": HOSTILE[n % 9], "document": f"document {n // 2} {HOSTILE[n % 7]} end"}
            row |= {"summary": [f"summary {n} {HOSTILE[n % 5]}", "other"], "alpha": n % 3, "id": f"row {n % 50}"}
            out.write(json.dumps(row if n % 4 else {key: row[key] for key in sorted(row)}) + "\n")
    return str(path)


@pytest.fixture(autouse=True)
def _keep_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "WORTH_KEEPING_BYTES", 0)


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    train = load(DataSpec(train_file=write(tmp_path_factory.mktemp("store") / "a.jsonl", 120))).train
    assert isinstance(train, Examples)
    return train


def kept_files() -> list[Path]:
    return [path for path in cache.cache_folder().rglob("*") if path.is_file()]


def test_the_content_hash_is_over_the_examples_as_they_are(tmp_path: Path) -> None:
    """Written out: the names of recorded runs hold this hash."""
    dataset = load(DataSpec(train_file=write(tmp_path / "a.jsonl", 60)))
    digest = hashlib.sha256()
    for split in ("train", "validation", "test"):
        for one in getattr(dataset, split):
            row = [split, one.id, one.document, one.references, sorted(one.fields.items())]
            digest.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    assert dataset.content_hash == digest.hexdigest()[:16] == "5b3c9319364f4dee"
    assert list(dataset.train[1].fields) == ["zeta", "alpha"]  # in the order of the file


def test_the_second_load_cleans_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    spec = DataSpec(train_file=write(path, 60), max_train_documents=10)
    first = load(spec)
    assert len(kept_files()) == 1

    def refuse(*_: Any) -> Iterator[Example]:
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr(Cleaner, "read", refuse)
        assert load(spec) == first
        with pytest.raises(AssertionError, match="read again"):
            load(spec.model_copy(update={"split_seed": 1}))
        status = path.stat()
        path.write_bytes(path.read_bytes().replace(b"other", b"Other"))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # the same size, and a clock that saw nothing
        with pytest.raises(AssertionError, match="read again"):
            load(spec)
    assert load(spec).content_hash != first.content_hash


def test_a_damaged_file_of_the_cache_is_made_anew(tmp_path: Path) -> None:
    spec = DataSpec(train_file=write(tmp_path / "a.jsonl", 60))
    first = list(load(spec).train)
    (kept,) = kept_files()
    kept.write_bytes(kept.read_bytes().replace(b"document 7", b"document 8"))
    assert load(spec).train == first


def test_a_small_file_leaves_nothing_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "WORTH_KEEPING_BYTES", 10**6)
    assert load(DataSpec(train_file=write(tmp_path / "a.jsonl", 60))).train[0].document
    assert kept_files() == []


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = DataSpec(train_file=write(tmp_path / "a.jsonl", 60))
    known = load(spec)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "file"))
    assert load(spec) == known


def test_a_file_that_grows_while_it_is_read_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    spec = DataSpec(train_file=write(path, 60))
    read = Cleaner.read

    def grow(*args: Any) -> Iterator[Example]:
        with path.open("a") as out:
            out.write('{"document": "late", "summary": "row"}\n')
        return read(*args)

    monkeypatch.setattr(Cleaner, "read", grow)
    assert len(load(spec).train) > 0
    assert kept_files() == []


def test_data_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too few to cut off"):
        load(DataSpec(train_file=write(tmp_path / "a.jsonl", 2)))
    assert kept_files() == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.data())
def test_a_sequence_like_any_other(train: Examples, data: st.DataObject) -> None:
    known = list(train)
    ends = st.none() | st.integers(-200, 200)
    part = slice(data.draw(ends), data.draw(ends), data.draw(ends.filter(lambda step: step != 0)))
    assert train[part] == known[part]
    assert list(train[part]) == known[part]
    at = data.draw(st.integers(-len(known), len(known) - 1))
    assert train[at] == known[at]
    with pytest.raises(IndexError):
        train[len(known)]


@given(st.floats(0.01, 1), st.integers(0, 3), st.integers(1, 80))
def test_choices_are_those_of_a_list(train: Examples, fraction: float, seed: int, limit: int) -> None:
    known = list(train)
    assert take_fraction(train, fraction, seed) == take_fraction(known, fraction, seed)
    kept, left_out = first_groups(iter(known), limit, seed)
    assert first_of(train, limit, seed) == (kept, left_out)
    shares = {"validation": fraction / 3, "test": fraction / 3}
    assert cut_off(train, shares, seed, "x") == {
        split: tuple(part) for split, part in cut_off(known, shares, seed, "x").items()
    }


def test_choices_read_no_text(train: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> bytes:
        raise AssertionError("a text was read")

    monkeypatch.setattr(Rows, "line", refuse)
    part = take_fraction(train, 0.3, 0)
    assert isinstance(part, Examples)
    assert 0 < len(part) == len(part.groups) < len(train)
    assert 0 < part.text_bytes < train.text_bytes
    with pytest.raises(AssertionError, match="a text was read"):
        part[0]


def test_content_names_examples_and_their_order(train: Examples, tmp_path: Path) -> None:
    part = take_fraction(train, 0.3, 0)
    assert isinstance(part, Examples)
    names = [json.dumps(some.content) for some in (train, part, part[::-1], part[1:], train[::-1])]
    assert len(set(names)) == 5
    assert part.whole.content == train.content == take_fraction(train, 1.0, 0)[:].content  # type: ignore[attr-defined]
    assert [train[int(at)] for at in part.within] == list(part)
    again: Dataset = load(DataSpec(train_file=write(tmp_path / "b.jsonl", 120)))
    assert again.train.content == train.content  # type: ignore[attr-defined]
    assert again.validation.content != train.content  # type: ignore[attr-defined]
