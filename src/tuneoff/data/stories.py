"""Folders of `.story` files, the form of CNN/DailyMail: a text, then its highlights, each after a line `@highlight`."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tuneoff.data.archives import split_of
from tuneoff.data.byte_source import file_source, is_hidden
from tuneoff.data.example import Split
from tuneoff.data.source_table import HIGHLIGHT, SourceRow, SourceTable, UnreadableRow

_PATTERN = "*.story"


def is_story_folder(folder: Path) -> bool:
    """Whether a folder, or one inside it, holds `.story` files."""
    return next(folder.rglob(_PATTERN), None) is not None


def open_stories(folder: Path, encoding: str | None = None) -> dict[Split, list[SourceTable]]:
    """One table for each split that names of files or folders contain; without any, all stories are training data.

    Each story is a row with `id` (the name of its file), `article` and `highlights`, one a line.
    """
    found = sorted(
        path for path in folder.rglob(_PATTERN) if path.is_file() and not is_hidden(path.relative_to(folder))
    )
    by_split: dict[Split, list[Path]] = {}
    for path in found:
        by_split.setdefault(split_of(path.relative_to(folder).as_posix()) or "train", []).append(path)
    return {
        split: [SourceTable(f"{folder} ({split})", "row", _rows(paths, encoding or "utf-8-sig"), tuple(paths))]
        for split, paths in by_split.items()
    }


def _rows(paths: Sequence[Path], encoding: str) -> Iterator[SourceRow | UnreadableRow]:
    for number, path in enumerate(paths, 1):
        with file_source(path).text(encoding, newline=None) as stream:
            article, *highlights = (part.strip() for part in stream.read().split(HIGHLIGHT))
        if not highlights:
            yield UnreadableRow(number, f"{path.name} has no {HIGHLIGHT} line")
        else:
            yield SourceRow(number, {"id": path.stem, "article": article, "highlights": "\n".join(highlights)})
