"""`manifest.json`: digest, size and time of every file of a folder, which itself is covered by a digest inside it.

A manifest is written before the files that it describes. An entry that is `pending` therefore also allows the file as
it was before, so a process that is killed between the two writes leaves a folder that is whole.
"""

import contextlib
import hashlib
import json
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from tuneoff.cache import file_digest
from tuneoff.errors import UserError
from tuneoff.regular_files import check_inside, read_limited
from tuneoff.results.json_files import MOST_OBJECT_BYTES, write_text_atomic
from tuneoff.spec.run import Frozen

MANIFEST = "manifest.json"
RUN_AGAIN = "run the same command again, which repairs what can be computed again, or restore the file"
MOST_BYTES = 2 * 10**9  # of one file of a study, which is in memory as a whole; one of JSON has a single object
# Of a manifest: 150,000 runs. An entry has a digest of 64 digits; shorter objects fill memory and describe no file.
_MOST_MANIFEST_BYTES, _BYTES_PER_OBJECT = 250_000_000, 80
# A process that writes in the folder may change file and manifest between two reads.
_ATTEMPTS, _PAUSE_SECONDS = 4, 0.05


class FileEntry(Frozen):
    """What a file must be."""

    sha256: str
    bytes: int
    modified_ns: int | None = None
    """Time of the last change when the digest was taken; None for a file that is always checked by its digest."""
    pending: bool = False
    """Whether the file may still be as it was before."""
    before: str | None = None
    """For a pending file: SHA-256 of what it was; None if there was none."""


class Manifest(BaseModel):
    """The files of one folder by their paths relative to it."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    version: int = 1
    files: dict[str, FileEntry] = {}
    left_out: dict[str, str] = {}
    """Files without a digest, and why."""

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        # What a stranger's manifest names is read and may be moved, so it must not name files elsewhere.
        for name in files:
            path = PurePosixPath(name)
            if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
                raise ValueError(f"{name!r} is not a path inside the folder")
        return files


def digest_of(data: bytes) -> str:
    """SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def entry_of(data: bytes) -> FileEntry:
    """The entry of a file with this content."""
    return FileEntry(sha256=digest_of(data), bytes=len(data))


def entry_of_file(path: Path) -> FileEntry:
    """The entry of a file on disk, which is checked by size and time first. Raises as `file_digest`."""
    found = path.stat()
    return FileEntry(sha256=file_digest(path), bytes=found.st_size, modified_ns=found.st_mtime_ns)


def _digest_before(path: Path) -> str | None:
    """SHA-256 of a file that will be replaced; None if nothing is there that tuneoff can have written."""
    try:
        return None if path.is_symlink() else digest_of(read_limited(path, MOST_BYTES))
    except (OSError, UserError):
        return None


def fault_of(path: Path, entry: FileEntry, *, thorough: bool = True) -> str | None:
    """`damaged` or `missing`, or None for a file that is as its entry says.

    Not `thorough`: a file with the size and time of its entry is not read.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return "damaged"
        if not thorough and (found.st_size, found.st_mtime_ns) == (entry.bytes, entry.modified_ns):
            return None
        if found.st_size != entry.bytes and not entry.pending:
            return "damaged"
        return None if _allows(entry, file_digest(path)) else "damaged"
    except (FileNotFoundError, NotADirectoryError):
        return None if entry.pending and entry.before is None else "missing"
    except (OSError, UserError):
        return "damaged"


def _allows(entry: FileEntry, digest: str) -> bool:
    return digest == entry.sha256 or (entry.pending and digest == entry.before)


def _own_digest(plain: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in plain.items() if key != "sha256"}
    return digest_of(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())


def manifest_text(manifest: Manifest) -> str:
    """The text of a manifest, with its own digest."""
    plain = manifest.model_dump(mode="json", exclude_defaults=True)
    plain = {"version": manifest.version, **plain}
    # A key on each line. Not `indent`, with which Python's slow encoder is used: a study may have 10,000 runs.
    separators = (",\n", ": ")
    return json.dumps({**plain, "sha256": _own_digest(plain)}, separators=separators, ensure_ascii=False) + "\n"


def parse_manifest(data: bytes, path: Path) -> Manifest:
    """The manifest in `data`, read from `path`. Raises `UserError` if its own digest does not fit."""
    objects = data.count(b"{") + data.count(b"[")
    try:
        plain = json.loads(data.decode("utf-8")) if objects <= 100 + len(data) // _BYTES_PER_OBJECT else {}
        if plain["sha256"] == _own_digest(plain):
            return Manifest.model_validate(plain)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ValidationError):
        pass
    raise UserError(f"{path}: damaged, so the files beside it cannot be checked; {RUN_AGAIN}")


def read_manifest(path: Path) -> Manifest:
    """The manifest at `path`. Raises `OSError`, and `UserError` if it is damaged or too large to be one."""
    return parse_manifest(read_limited(path, _MOST_MANIFEST_BYTES), path)


def _version_of(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


@dataclass
class CoveredFolder:
    """The files of one folder, read and written through its manifest. A folder without one is read as it is.

    Only one process may write: the one that holds the study's lock, or the process of the run.
    """

    path: Path
    _cached: tuple[tuple[int, int, int], Manifest] | None = None
    _grouped: tuple[Manifest, str, dict[str, dict[str, FileEntry]]] | None = None

    @property
    def manifest(self) -> Manifest | None:
        """The manifest; None without one. Raises `UserError` if it is damaged."""
        path = self.path / MANIFEST
        try:
            version = _version_of(path)
            if self._cached is None or self._cached[0] != version:
                self._cached = (version, read_manifest(path))
        except (FileNotFoundError, NotADirectoryError):
            self._cached = None
            return None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); {RUN_AGAIN}") from error
        return self._cached[1]

    @property
    def files(self) -> Mapping[str, FileEntry]:
        """The entries of the manifest; empty without one."""
        return {} if (manifest := self.manifest) is None else manifest.files

    def files_by_folder(self, parent: str) -> Mapping[str, Mapping[str, FileEntry]]:
        """The entries below each folder in `parent`: name of the folder -> path relative to it -> entry."""
        manifest = self.manifest
        if manifest is None:
            return {}
        if self._grouped is None or self._grouped[0] is not manifest or self._grouped[1] != parent:
            found: dict[str, dict[str, FileEntry]] = {}
            for key, entry in manifest.files.items():
                if key.startswith(f"{parent}/"):
                    name, _, file = key.removeprefix(f"{parent}/").partition("/")
                    found.setdefault(name, {})[file] = entry
            self._grouped = (manifest, parent, found)
        return self._grouped[2]

    def read(self, name: str) -> bytes | None:
        """The content of a file, which was checked; None without one.

        Raises `UserError` if it is damaged or gone, too large, or a link that leaves the folder.
        """
        path = self.path / name
        check_inside(self.path, path)
        most = MOST_OBJECT_BYTES if path.suffix == ".json" else MOST_BYTES
        most = _MOST_MANIFEST_BYTES if path.name == MANIFEST else most
        fault = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE_SECONDS)
            try:
                data = read_limited(path, most)
            except (FileNotFoundError, NotADirectoryError):
                entry = self.files.get(name)
                if entry is None or (entry.pending and entry.before is None):
                    return None
                fault = "missing"
                continue
            except OSError as error:
                raise UserError(f"{path}: cannot be read ({error.strerror}); {RUN_AGAIN}") from error
            entry = self.files.get(name)
            if entry is None or _allows(entry, digest_of(data)):
                return data
            fault = "damaged: its content has changed since it was written"
        raise UserError(f"{path}: {fault}; {RUN_AGAIN}")

    def write(self, name: str, text: str) -> None:
        """Write a file and its entry. A file that has this content already is left alone."""
        path, new = self.path / name, entry_of(text.encode())
        before, entry = _digest_before(path), self.files.get(name)
        if entry is not None and before == entry.sha256 == new.sha256:
            return
        self.update({name: new.model_copy(update={"pending": True, "before": before})})
        if before != new.sha256:
            write_text_atomic(path, text)

    def update(self, changed: Mapping[str, FileEntry], removed: Iterator[str] | tuple[str, ...] = ()) -> None:
        """Write the manifest with `changed` entries and without those of `removed`."""
        manifest = self.manifest or Manifest()
        files = dict(self._settled(manifest.files)) | dict(changed)
        for name in removed:
            files.pop(name, None)
        if files != manifest.files or not (self.path / MANIFEST).exists():
            new = manifest.model_copy(update={"files": dict(sorted(files.items()))})
            write_text_atomic(self.path / MANIFEST, manifest_text(new))
            with contextlib.suppress(OSError):
                self._cached = (_version_of(self.path / MANIFEST), new)  # parsing it again would take longer

    def settle(self) -> None:
        """Make every pending entry say what the file is."""
        if any(entry.pending for entry in self.files.values()):
            self.update({})

    def _settled(self, files: Mapping[str, FileEntry]) -> Iterator[tuple[str, FileEntry]]:
        for name, entry in files.items():
            if not entry.pending:
                yield name, entry
                continue
            try:
                data = read_limited(self.path / name, MOST_BYTES)
            except (OSError, UserError):
                if entry.before is not None:
                    yield name, entry
                continue  # it was never written
            yield name, entry_of(data) if _allows(entry, digest_of(data)) else entry
