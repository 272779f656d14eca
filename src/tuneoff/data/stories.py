"""Folders of `.story` files, the form of CNN/DailyMail: a text, then its highlights, each after a line `@highlight`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tuneoff.data.archives import split_of
from tuneoff.data.byte_source import file_source, is_hidden
from tuneoff.data.encoding import text_encoding
from tuneoff.data.example import Split
from tuneoff.data.source_table import HIGHLIGHT, SourceRow, SourceTable, UnreadableRow
from tuneoff.errors import UserError

_PATTERN = "*.story"
_GUESSED = "read in an encoding that was guessed; if it is wrong, name it with --encoding"


def is_story_folder(folder: Path) -> bool:
    """Whether a folder, or one inside it, holds `.story` files."""
    return next(_stories(folder), None) is not None


def _stories(folder: Path) -> Iterator[Path]:
    """The `.story` files of a folder, in no particular order."""
    return (path for path in folder.rglob(_PATTERN) if path.is_file() and not is_hidden(path.relative_to(folder)))


def open_stories(folder: Path, encoding: str | None = None) -> dict[Split, list[SourceTable]]:
    """One table for each split that names of files or folders contain; without any, all stories are training data.

    Each story is a row with `id` (the name of its file), `article` and `highlights`, one a line. `encoding` is that of
    the files; None finds that of each. Raises `UserError` without a story to train on.
    """
    by_split: dict[Split, list[Path]] = {}
    for path in sorted(_stories(folder)):
        by_split.setdefault(split_of(path.relative_to(folder).as_posix()) or "train", []).append(path)
    if "train" not in by_split:
        raise UserError(
            f"{folder}: no story to train on, because the name of each says {' or '.join(sorted(by_split))}; put those "
            "to train on into a folder train"
        )
    return {
        split: [SourceTable(f"{folder} ({split})", "row", _rows(paths, encoding), tuple(paths))]
        for split, paths in by_split.items()
    }


def _rows(paths: Sequence[Path], encoding: str | None) -> Iterator[SourceRow | UnreadableRow]:
    for number, path in enumerate(paths, 1):
        source = file_source(path)
        found = text_encoding(source, encoding)
        with source.text(found.name, newline=None) as stream:
            article, *highlights = (part.strip() for part in stream.read().split(HIGHLIGHT))
        if not highlights:
            yield UnreadableRow(number, f"{path.name} has no {HIGHLIGHT} line")
        else:
            values: dict[str, object] = {"id": path.stem, "article": article, "highlights": "\n".join(highlights)}
            yield SourceRow(number, values, None if found.caution is None else _GUESSED)
