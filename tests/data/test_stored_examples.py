"""Stored examples equal those that were read: same order, same choices, same hash. Cached data is cleaned once."""

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
from tuneoff.data import Dataset, Example, Split, load_dataset, take_fraction
from tuneoff.data.clean import Cleaner
from tuneoff.data.splits import hold_out, limit_documents, limit_stored_documents
from tuneoff.data.stored_examples import StoredExamples, StoredRows
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec

HOSTILE = ['"], ["', "\\", "\u2028\u0085", "😀é", '\\"], [\\"', "<|end|>", "\x01\x7f", "[]", "a\nb\r\tc"]


def write(path: Path, count: int) -> str:
    """Rows with fields that are not in alphabetical order, several references, and texts that look like JSON."""
    with path.open("w", encoding="utf-8") as out:
        for n in range(count):
            row: dict[str, Any] = {"zeta": HOSTILE[n % 9], "document": f"document {n // 2} {HOSTILE[n % 7]} end"}
            row |= {"summary": [f"summary {n} {HOSTILE[n % 5]}", "other"], "alpha": n % 3, "id": f"row {n % 50}"}
            out.write(json.dumps(row if n % 4 else {key: row[key] for key in sorted(row)}) + "\n")
    return str(path)


@pytest.fixture(autouse=True)
def _cache_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "WORTH_CACHING_BYTES", 0)


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> StoredExamples:
    train = load_dataset(DataSpec(train_file=write(tmp_path_factory.mktemp("store") / "a.jsonl", 120))).train
    assert isinstance(train, StoredExamples)
    return train


def cached_files() -> list[Path]:
    return [path for path in cache.cache_folder().rglob("*") if path.is_file()]


def test_the_content_hash_is_over_the_examples_as_they_are(tmp_path: Path) -> None:
    """A literal value, because run ids contain this hash."""
    dataset = load_dataset(DataSpec(train_file=write(tmp_path / "a.jsonl", 60)))
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
    first = load_dataset(spec)
    assert len(cached_files()) == 1

    def refuse(*_: Any) -> Iterator[Example]:
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr(Cleaner, "read", refuse)
        assert load_dataset(spec) == first
        with pytest.raises(AssertionError, match="read again"):
            load_dataset(spec.model_copy(update={"split_seed": 1}))
        status = path.stat()
        path.write_bytes(path.read_bytes().replace(b"other", b"Other"))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # the same size and modification time
        with pytest.raises(AssertionError, match="read again"):
            load_dataset(spec)
    assert load_dataset(spec).content_hash != first.content_hash


def test_a_damaged_file_of_the_cache_is_written_again(tmp_path: Path) -> None:
    spec = DataSpec(train_file=write(tmp_path / "a.jsonl", 60))
    first = list(load_dataset(spec).train)
    (cached,) = cached_files()
    cached.write_bytes(cached.read_bytes().replace(b"document 7", b"document 8"))
    assert load_dataset(spec).train == first


def test_a_small_file_leaves_nothing_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "WORTH_CACHING_BYTES", 10**6)
    assert load_dataset(DataSpec(train_file=write(tmp_path / "a.jsonl", 60))).train[0].document
    assert cached_files() == []


def test_a_cache_that_cannot_be_written_is_not_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = DataSpec(train_file=write(tmp_path / "a.jsonl", 60))
    known = load_dataset(spec)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "file"))
    assert load_dataset(spec) == known


def test_a_file_that_grows_while_it_is_read_is_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    spec = DataSpec(train_file=write(path, 60))
    read = Cleaner.read

    def grow(*args: Any) -> Iterator[Example]:
        with path.open("a") as out:
            out.write('{"document": "late", "summary": "row"}\n')
        return read(*args)

    monkeypatch.setattr(Cleaner, "read", grow)
    assert len(load_dataset(spec).train) > 0
    assert cached_files() == []


def test_data_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too few to hold out"):
        load_dataset(DataSpec(train_file=write(tmp_path / "a.jsonl", 2)))
    assert cached_files() == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.data())
def test_behaves_like_a_list(train: StoredExamples, data: st.DataObject) -> None:
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
def test_choices_equal_those_of_a_list(train: StoredExamples, fraction: float, seed: int, limit: int) -> None:
    known = list(train)
    assert take_fraction(train, fraction, seed) == take_fraction(known, fraction, seed)
    kept, over_limit = limit_documents(iter(known), limit, seed)
    assert limit_stored_documents(train, limit, seed) == (kept, over_limit)
    fractions: dict[Split, float] = {"validation": fraction / 3, "test": fraction / 3}
    assert hold_out(train, fractions, seed, "x") == {
        split: tuple(part) for split, part in hold_out(known, fractions, seed, "x").items()
    }


def test_choices_read_no_text(train: StoredExamples, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> bytes:
        raise AssertionError("a text was read")

    monkeypatch.setattr(StoredRows, "line", refuse)
    part = take_fraction(train, 0.3, 0)
    assert isinstance(part, StoredExamples)
    assert 0 < len(part) == len(part.groups) < len(train)
    assert 0 < part.text_bytes < train.text_bytes
    with pytest.raises(AssertionError, match="a text was read"):
        part[0]


def test_content_key_identifies_examples_and_their_order(train: StoredExamples, tmp_path: Path) -> None:
    part = take_fraction(train, 0.3, 0)
    assert isinstance(part, StoredExamples)
    names = [json.dumps(some.content_key) for some in (train, part, part[::-1], part[1:], train[::-1])]
    assert len(set(names)) == 5
    assert part.full_split.content_key == train.content_key == take_fraction(train, 1.0, 0)[:].content_key  # type: ignore[attr-defined]
    assert [train[int(at)] for at in part.positions_in_split] == list(part)
    again: Dataset = load_dataset(DataSpec(train_file=write(tmp_path / "b.jsonl", 120)))
    assert again.train.content_key == train.content_key  # type: ignore[attr-defined]
    assert again.validation.content_key != train.content_key  # type: ignore[attr-defined]
