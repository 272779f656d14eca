"""Folders and zip archives whose files are the splits: `train.jsonl`, `valid.csv`, `test/part-1.parquet`."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from tuneoff.data.byte_source import ByteSource, file_source, is_hidden, zip_sources
from tuneoff.data.example import Split
from tuneoff.data.files import has_data_suffix, open_source
from tuneoff.data.source_table import SourceTable
from tuneoff.errors import UserError

# Also the names of the splits of a data set of the hub.
SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
_WORD = re.compile(r"[a-z]+")
MOST_FILES = 500  # each is open while its columns are looked up


def open_split_files(folder: Path, encoding: str | None) -> dict[Split, list[SourceTable]]:
    """Open the data files of a folder, or of a zip archive, by the split that their names contain.

    A single data file is training data, whatever its name. Raises `UserError` if no file is, or if a split is there in
    two formats.
    """
    if folder.is_dir():
        found = sorted(path for path in folder.rglob("*") if has_data_suffix(path.name) and path.is_file())
        files = {path.relative_to(folder): path for path in found}
        sources = {name.as_posix(): file_source(path) for name, path in files.items() if not is_hidden(name)}
    else:
        members = {source.name.removeprefix(f"{folder}/"): source for source in zip_sources(folder)}
        sources = {name: members[name] for name in sorted(members) if has_data_suffix(name)}
    splits = _by_split(sources)
    if not splits and len(sources) == 1:
        splits = {"train": list(sources)}
    if "train" not in splits:
        listed = ", ".join(list(sources)[:8]) or "no data files"
        raise UserError(
            f"{folder}: no data file in it has `train` in its name (there are: {listed}); name the files with "
            "--train-file and --test-file"
        )
    for split, names in splits.items():
        _check_one_format(folder, split, names, sources)
    return {split: [open_source(sources[name], encoding) for name in names] for split, names in splits.items()}


def _by_split(names: Iterable[str]) -> dict[Split, list[str]]:
    found: dict[Split, list[str]] = {}
    for name in names:
        if (split := split_of(name)) is not None:
            found.setdefault(split, []).append(name)
    return {split: found[split] for split in SPLIT_NAMES if split in found}


def split_of(name: str) -> Split | None:
    """The split in the name of a file, else in that of the nearest folder; None if there is none or more than one."""
    for part in reversed(PurePosixPath(name.lower()).parts):
        words = set(_WORD.findall(part))
        splits: list[Split] = [split for split, usual in SPLIT_NAMES.items() if words & {*usual}]
        if splits:
            return splits[0] if len(splits) == 1 else None
    return None


def _check_one_format(folder: Path, split: Split, names: Sequence[str], sources: dict[str, ByteSource]) -> None:
    by_suffix = {sources[name].suffix: name for name in reversed(names)}
    if len(by_suffix) > 1:
        listed = " and ".join(sorted(by_suffix.values())[:2])
        raise UserError(f"{folder}: {listed} are both of the split {split}; name one of them with --{split}-file")
    if len(names) > MOST_FILES:
        raise UserError(f"{folder}: {len(names)} files of the split {split}, more than {MOST_FILES}; join them first")
