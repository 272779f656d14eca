"""A manifest covers the files of a folder and itself, and every state that a killed process leaves is whole."""

import json
import os
from pathlib import Path

import pytest

from tuneoff.errors import UserError
from tuneoff.results import manifest
from tuneoff.results.json_files import write_text_atomic
from tuneoff.results.manifest import (
    MANIFEST,
    CoveredFolder,
    Manifest,
    entry_of,
    fault_of,
    manifest_text,
    parse_manifest,
)


def test_a_manifest_covers_itself(tmp_path: Path) -> None:
    text = manifest_text(
        Manifest(files={"a.json": entry_of(b"1"), "ä.json": entry_of(b"2")}, left_out={"log": "grows"})
    )
    assert parse_manifest(text.encode(), tmp_path).files["ä.json"] == entry_of(b"2")
    data = text.encode()
    for at in range(len(data)):  # white space and the order of keys do not matter; everything else does
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(UserError, match="damaged"):
            parse_manifest(changed, tmp_path)
    with pytest.raises(UserError, match="damaged"):
        parse_manifest(data[:-20], tmp_path)


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "runs/../../a", "a\\b", ""])
def test_a_manifest_names_no_files_elsewhere(tmp_path: Path, name: str) -> None:
    text = manifest_text(Manifest.model_construct(files={name: entry_of(b"")}))
    with pytest.raises(UserError, match="damaged"):
        parse_manifest(text.encode(), tmp_path)


def test_files_are_read_as_they_were_written_or_not_at_all(tmp_path: Path) -> None:
    folder = CoveredFolder(tmp_path)
    assert folder.read("a") is None
    folder.write("a", "one")
    folder.write("b", "two")
    assert (folder.read("a"), folder.read("b")) == (b"one", b"two")
    (tmp_path / "a").write_text("onf")
    with pytest.raises(UserError, match=r"a: damaged: its content has changed .*run the same command again"):
        CoveredFolder(tmp_path).read("a")
    (tmp_path / "a").unlink()
    with pytest.raises(UserError, match=r"a: missing; run the same command again"):
        folder.read("a")
    (tmp_path / "strange").write_text("of the user")
    assert folder.read("strange") == b"of the user"


def test_the_same_content_is_not_written_again(tmp_path: Path) -> None:
    folder = CoveredFolder(tmp_path)
    folder.write("a", "one")
    folder.settle()
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    folder.write("a", "one")
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("first", [None, "old"])
@pytest.mark.parametrize("dies_at", [1, 2])
def test_a_process_that_dies_between_two_writes_leaves_a_whole_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str | None, dies_at: int
) -> None:
    folder = CoveredFolder(tmp_path)
    folder.write("other", "x")
    if first is not None:
        folder.write("a", first)
    calls = []
    real = write_text_atomic

    def killed(path: Path, text: str) -> None:
        calls.append(path)
        if len(calls) == dies_at:
            raise KeyboardInterrupt
        real(path, text)

    monkeypatch.setattr(manifest, "write_text_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.write("a", "new")
    monkeypatch.undo()
    after = CoveredFolder(tmp_path)
    assert after.read("a") == (None if first is None else first.encode())
    assert after.read("other") == b"x"
    after.write("a", "new")
    after.settle()
    assert after.files["a"] == entry_of(b"new")


def test_weights_are_read_only_if_size_or_time_differ(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"1" * 100)
    entry = manifest.entry_of_file(path)
    path.write_bytes(b"2" * 100)
    assert fault_of(path, entry, thorough=False) == "damaged"
    os.utime(path, ns=(entry.modified_ns or 0, entry.modified_ns or 0))
    assert fault_of(path, entry, thorough=False) is None
    assert fault_of(path, entry) == "damaged"


def test_what_is_not_a_file_is_never_read(tmp_path: Path) -> None:
    folder = CoveredFolder(tmp_path)
    folder.write("a", "one")
    (tmp_path / "a").unlink()
    os.mkfifo(tmp_path / "a")
    assert fault_of(tmp_path / "a", entry_of(b"one")) == "damaged"
    with pytest.raises(UserError, match=r"a: a named pipe, where a regular file was expected"):
        folder.read("a")


def test_an_entry_that_fits_a_hole_does_not_have_it_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"1")
    os.truncate(path, 10**13)
    if path.stat().st_blocks > 10**6:
        pytest.skip("this file system stores holes")
    assert fault_of(path, entry_of(b"1").model_copy(update={"bytes": 10**13})) == "damaged"
    with pytest.raises(UserError, match=r"weights\.bin: 10,000\.0 GB of which only"):
        manifest.entry_of_file(path)


def test_a_manifest_of_short_objects_is_not_taken_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / MANIFEST
    monkeypatch.setattr(json, "loads", lambda text: pytest.fail(f"{len(text)} bytes were parsed"))
    for value in (b"[]", b"{}"):
        path.write_bytes(b'{"files": [' + b",".join([value] * 1_000) + b"]}")
        with pytest.raises(UserError, match=r"manifest\.json: damaged"):
            CoveredFolder(tmp_path).read("a")
    monkeypatch.setattr(manifest, "_MOST_MANIFEST_BYTES", 1_000)
    with pytest.raises(UserError, match=r"manifest\.json: larger than"):
        CoveredFolder(tmp_path).read("a")


def test_a_pipe_in_place_of_a_file_that_is_written_or_settled_is_not_waited_for(tmp_path: Path) -> None:
    folder = CoveredFolder(tmp_path)
    os.mkfifo(tmp_path / "a")
    os.mkfifo(tmp_path / "b")
    folder.update({"b": entry_of(b"two").model_copy(update={"pending": True})})
    folder.write("a", "one")
    folder.settle()
    assert folder.read("a") == b"one"
    assert "b" not in folder.files


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    folder = CoveredFolder(tmp_path)
    folder.write("a", "one")
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(UserError, match=r"manifest\.json: damaged"):
        folder.read("a")


def test_what_a_link_brings_in_is_never_read(tmp_path: Path) -> None:
    folder, secret = CoveredFolder(tmp_path / "study"), tmp_path / "secret.jsonl"
    folder.path.mkdir()
    secret.write_text('{"id": "a", "text": "SECRET"}\n')
    (folder.path / "documents.jsonl").symlink_to(secret)
    (folder.path / "outside").symlink_to(tmp_path)
    for name in ("documents.jsonl", "outside/secret.jsonl"):
        with pytest.raises(UserError, match=f"{name}: a link to .*secret.jsonl, outside of"):
            folder.read(name)


def test_a_file_of_one_object_is_small_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MOST_OBJECT_BYTES", 10)
    for name in ("record.json", "predictions.jsonl"):
        (tmp_path / name).write_text("x" * 11)
    assert CoveredFolder(tmp_path).read("predictions.jsonl") == b"x" * 11
    with pytest.raises(UserError, match=r"record\.json: larger than the"):
        CoveredFolder(tmp_path).read("record.json")
