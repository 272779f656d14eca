"""The one owner of run folders: every path, every read and every write.

A run folder holds `record.json`, `predictions.jsonl`, `events.jsonl`, `log.txt`, `artefact/` and, until the run has
ended, a checkpoint.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tuneoff.errors import UserError
from tuneoff.regular_files import open_regular
from tuneoff.results.json_files import read_json, read_jsonl, write_json, write_jsonl
from tuneoff.results.run_outputs import RunOutputs
from tuneoff.results.run_record import Prediction, Record

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
        return self.path / "record.json"

    @property
    def _predictions(self) -> Path:
        return self.path / "predictions.jsonl"

    def log_tail(self, most_bytes: int) -> str:
        """The end of what the run printed; empty without a log."""
        try:
            with open_regular(self.log) as stream:
                stream.seek(max(0, self.log.stat().st_size - most_bytes))
                return stream.read().decode(errors="replace")
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
        record = read_json(self._record, Record, "delete the folder to repeat the run")
        if record is None:
            raise UserError(f"{self.path}: contains no record.json; name a run folder (runs/<study>/runs/<run>)")
        return record

    def write_record(self, record: Record) -> None:
        """Write `record.json`."""
        write_json(self._record, record)

    def read_predictions(self) -> list[Prediction]:
        """The predictions, empty if the run wrote none. Raises `UserError` for a damaged file."""
        return read_jsonl(self._predictions, Prediction)

    def write_predictions(self, predictions: Iterable[Prediction]) -> None:
        """Write `predictions.jsonl`."""
        write_jsonl(self._predictions, predictions)

    def has_artefact_files(self, record: Record) -> bool:
        """Whether every file that the record lists is still there."""
        files = record.artefact.files if record.artefact else ()
        return all((self.artefact / name).exists() for name in files)

    def discard_results(self) -> None:
        """Remove record, predictions, events and log of an earlier attempt; its checkpoint stays."""
        for path in (self._record, self._predictions, self.events, self.log):
            path.unlink(missing_ok=True)

    def withhold_texts(self, record: Record, predictions: Iterable[Prediction]) -> None:
        """Remove generated texts, and prompts that were made from documents (`--no-texts`)."""
        if record.artefact is not None and record.artefact.format == "prompt":
            for name in record.artefact.files:
                (self.artefact / name).unlink(missing_ok=True)
        rows = [row.without_text() for row in predictions]
        if rows:
            self.write_predictions(rows)


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

    def withhold_texts(self) -> "StoredRun":
        """The run after its texts were removed from the folder."""
        self.dir.withhold_texts(self.record, self.predictions)
        return StoredRun(self.dir, self.record, self.version)
