"""The one owner of run folders: every path, every read and every write.

A run folder holds `record.json`, `predictions.jsonl`, `events.jsonl`, `log.txt`, `artefact/`, `manifest.json` and,
until the run has ended, a checkpoint. The manifest is written before the record; a run without a record has not ended.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tuneoff.errors import UserError
from tuneoff.regular_files import check_inside, open_regular
from tuneoff.results.json_files import (
    TEMPORARY_PREFIX,
    LaterVersion,
    check_unique,
    json_text,
    jsonl_text,
    new_file_mode,
    parse_json,
    parse_jsonl,
    sync_folder,
    write_text_atomic,
)
from tuneoff.results.manifest import (
    MANIFEST,
    RUN_AGAIN,
    CoveredFolder,
    FileEntry,
    Manifest,
    entry_of,
    entry_of_file,
    fault_of,
    manifest_text,
)
from tuneoff.results.run_outputs import RunOutputs
from tuneoff.results.run_record import Prediction, Record
from tuneoff.results.shared_parts import share_parts

RECORD, PREDICTIONS = "record.json", "predictions.jsonl"
_GROWING = "it grows until the run has ended, and the record says what counts"
# Of libraries and of the trainer, which a killed process leaves.
_LEFTOVERS = (".tmp*", ".*.part", f"{TEMPORARY_PREFIX}*")
_STATES = ("checkpoint*.safetensors", "best-*.safetensors")

RecordVersion = tuple[int, int]


@dataclass(frozen=True)
class RunDir:
    """The folder of one run."""

    path: Path

    @property
    def name(self) -> str:
        """`<name>-<id>`."""
        return self.path.name

    @property
    def artefact(self) -> Path:
        """Folder of what the run leaves for use."""
        return self.path / "artefact"

    @property
    def events(self) -> Path:
        """The event log that grows while the run works."""
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        """What the run printed."""
        return self.path / "log.txt"

    @property
    def _record(self) -> Path:
        return self.path / RECORD

    @cached_property
    def covered(self) -> CoveredFolder:
        """The files of the folder with their digests."""
        return CoveredFolder(self.path)

    def log_tail(self, most_bytes: int) -> str:
        """The end of what the run printed; empty without a log. Raises `UserError` for a link out of the folder."""
        check_inside(self.path, self.log)
        try:
            with open_regular(self.log) as stream:
                stream.seek(max(0, self.log.stat().st_size - most_bytes))
                return stream.read(most_bytes).decode(errors="replace")
        except FileNotFoundError:
            return ""

    def has_record(self) -> bool:
        """Whether a record exists, readable or not."""
        return self._record.exists()

    def record_version(self) -> RecordVersion | None:
        """Time and size of `record.json`, by which a change is noticed; None without one."""
        try:
            found = self._record.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_size

    def read_record(self) -> Record:
        """The record. Raises `UserError` if there is none or it is damaged."""
        data = self.covered.read(RECORD)
        if data is None:
            raise UserError(f"{self.path}: contains no {RECORD}; name a run folder (runs/<study>/runs/<run>)")
        try:
            record = parse_json(data, self._record, Record, "delete the folder to repeat the run")
        except LaterVersion:
            raise
        except UserError as error:
            if RECORD not in self.covered.files:
                raise
            raise LaterVersion(
                f"{self._record}: whole, but not of a form that this version of tuneoff reads; use the version that "
                "wrote it, or choose another --output"
            ) from error
        share_parts(record)
        return record

    def write_record(self, record: Record) -> None:
        """Write the digests of everything that the run leaves, then `record.json`, with which the run has ended."""
        text = json_text(record)
        files = {RECORD: entry_of(text.encode())}
        if (self.path / PREDICTIONS).is_file():
            files[PREDICTIONS] = entry_of((self.path / PREDICTIONS).read_bytes())
        for name in () if record.artefact is None else record.artefact.files:
            if (self.artefact / name).is_file():
                files[f"artefact/{name}"] = entry_of_file(self.artefact / name)
        self.write_manifest(files)
        write_text_atomic(self._record, text)

    def write_manifest(self, files: dict[str, FileEntry]) -> None:
        """Write `manifest.json` with these entries."""
        logs = {path.name: _GROWING for path in (self.events, self.log) if path.exists()}
        manifest = Manifest(files=dict(sorted(files.items())), left_out=logs)
        write_text_atomic(self.path / MANIFEST, manifest_text(manifest))

    def read_predictions(self) -> list[Prediction]:
        """The predictions, empty if the run wrote none. Raises `UserError` for a damaged file."""
        rows = parse_jsonl(self.covered.read(PREDICTIONS) or b"", self.path / PREDICTIONS, Prediction)
        check_unique(rows, self.path / PREDICTIONS)
        return rows

    def write_predictions(self, predictions: Iterable[Prediction]) -> None:
        """Write `predictions.jsonl`."""
        write_text_atomic(self.path / PREDICTIONS, jsonl_text(predictions))

    def check_artefact(self) -> None:
        """Raise `UserError` unless every file of the artefact that is there has the bytes that the run wrote.

        Also for a folder of the artefact that is elsewhere, by a link.
        """
        check_inside(self.path, self.artefact)
        for name, entry in self.covered.files.items():
            if name.startswith("artefact/") and fault_of(self.path / name, entry) == "damaged":
                raise UserError(
                    f"{self.path / name}: damaged: its content has changed since it was written; copy it again from "
                    f"where the run was made, or {RUN_AGAIN}"
                )

    def fault(self, files: Mapping[str, FileEntry]) -> str | None:
        """What is wrong with the files of a run that has ended, by the entries `files`: a name and a word.

        An artefact that is missing altogether was left out on purpose, to save room.
        """
        own = [name for name in files if name.startswith("artefact/")]
        without = bool(own) and not any((self.path / name).exists() for name in own)
        for name, entry in files.items():
            if name == MANIFEST or (without and name in own):
                continue
            if (fault := fault_of(self.path / name, entry, thorough=name not in own)) is not None:
                return f"{name} is {fault}"
        return None

    def has_artefact_files(self, record: Record) -> bool:
        """Whether every file that the record lists is still there."""
        files = record.artefact.files if record.artefact else ()
        return all((self.artefact / name).exists() for name in files)

    def discard_results(self) -> None:
        """Remove record, predictions, events and log of an earlier attempt; its checkpoint stays."""
        for path in (self._record, self.path / MANIFEST, self.path / PREDICTIONS, self.events, self.log):
            path.unlink(missing_ok=True)

    def new_artefact(self) -> Path:
        """The folder of the artefact, empty: what an attempt that did not end left there belongs to no record."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.artefact)
        self.artefact.mkdir(parents=True)
        return self.artefact

    def states(self) -> list[Path]:
        """The states of a training that has not ended, and the best weights that they refer to."""
        return sorted(path for name in _STATES for path in self.path.glob(name))

    def remove_leftovers(self) -> None:
        """Remove temporary files of a killed process and, of a run that has ended, the states of its training."""
        states = self.states()
        ended = bool(states) and self.has_record() and self.read_record().ended
        found = [path for name in _LEFTOVERS for folder in (self.path, self.artefact) for path in folder.glob(name)]
        for path in (*found, *(states if ended else ())):
            with contextlib.suppress(OSError):
                path.unlink()

    def withhold_texts(self, record: Record, predictions: Iterable[Prediction]) -> None:
        """Remove generated texts, and prompts that were made from documents (`--no-texts`)."""
        covered = self.covered if self.covered.manifest is not None else None
        if record.artefact is not None and record.artefact.format == "prompt":
            names = [f"artefact/{name}" for name in record.artefact.files]
            if covered is not None:
                covered.update({}, tuple(names))
            for name in names:
                (self.path / name).unlink(missing_ok=True)
        rows = [row.without_text() for row in predictions]
        if not rows:
            return
        if covered is None:
            self.write_predictions(rows)
        else:
            covered.write(PREDICTIONS, jsonl_text(rows))
            covered.settle()


def settle_files(folder: Path) -> list[Path]:
    """Every file below a folder, after it was given the permissions of the user and synced to the disk."""
    mode = new_file_mode(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        path.chmod(mode)  # safetensors writes files that only their owner can read
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    for parent in {path.parent for path in files}:
        sync_folder(parent)
    return files


@dataclass(frozen=True)
class StoredRun:
    """A run as read from its folder. Its outputs are read when they are first used, and then kept without the texts."""

    dir: RunDir
    record: Record
    version: RecordVersion | None = field(default=None, compare=False)
    """Version of the file that the record was read from, if it is known."""

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return self.dir.name

    @property
    def predictions(self) -> list[Prediction]:
        """What the run wrote for the test documents: read at each use, because a study may have hundreds of runs."""
        return self.dir.read_predictions()

    @cached_property
    def outputs(self) -> RunOutputs:
        """The predictions without their texts."""
        return RunOutputs.of(self.predictions)

    def withhold_texts(self, before: Callable[[], None] = lambda: None) -> "StoredRun":
        """The run after its texts were removed from the folder; `before` is called if there are any."""
        rows = self.predictions
        artefact = self.record.artefact
        prompts = artefact.files if artefact is not None and artefact.format == "prompt" else ()
        if not any(row.text for row in rows) and not any((self.dir.artefact / name).exists() for name in prompts):
            return self
        before()
        self.dir.withhold_texts(self.record, rows)
        return StoredRun(self.dir, self.record, self.version)
