"""Reads the files and folders of scores that a user names, as one table."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tuneoff.data.byte_source import is_hidden
from tuneoff.data.files import has_data_suffix, local_path
from tuneoff.errors import UserError
from tuneoff.scores.formats import FORMATS, TABLE, format_of
from tuneoff.scores.score_columns import ScoreColumns
from tuneoff.scores.score_data import ScoreCollector, ScoreData, ScoreRow
from tuneoff.scores.score_file import ScoreFile
from tuneoff.text import join_words

_MOST_FILES = 10_000  # of a folder


def is_score_source(text: str) -> bool:
    """Whether `text`, as a user types it, names a file, or a folder with files of scores: `PATH` or `NAME=PATH`."""
    _, path = _name_and_path(text)
    if path.is_dir():
        return next(_files_in(path), None) is not None
    return path.is_file() and (has_data_suffix(path.name) or format_of(ScoreFile(str(path))) is not TABLE)


def read_score_files(sources: Sequence[str], columns: ScoreColumns | None = None) -> ScoreData:
    """The scores of all sources: `PATH`, a file or a folder, or `NAME=PATH`, which names the system.

    A NAME that is given several times is one system with a seed for each of its paths. Raises `UserError` for a file
    that cannot be read, with its line, and for files that contradict one another.
    """
    columns = columns or ScoreColumns()
    collector = ScoreCollector(columns.systems)
    files: list[str] = []
    for file in _files(sources):
        for row in format_of(file).read(file, columns):
            if isinstance(row, ScoreRow):
                collector.add(row)
            elif row not in collector.notes:
                collector.notes.append(row)
        files.append(file.name)
    return collector.finish(files)


def _files(sources: Sequence[str]) -> Iterator[ScoreFile]:
    named = [_name_and_path(source) for source in sources]
    names = [name for name, _ in named if name is not None]
    for index, (name, path) in enumerate(named):
        seed = None
        if name is not None and names.count(name) > 1:
            seed = str([other for other, _ in named[:index]].count(name))
        if not path.is_dir():
            yield ScoreFile(str(path), name, seed)
            continue
        found = list(_files_in(path))
        if not found:
            known = join_words([f"a {one.title}" for one in FORMATS.values()])
            raise UserError(f"{path}: no file of scores in this folder ({known} is recognised); name the files")
        yield from (ScoreFile(str(one), name, seed) for one in found)


def _name_and_path(text: str) -> tuple[str | None, Path]:
    path = local_path(text)
    name, equals, rest = text.partition("=")
    if not equals or not name.strip() or not rest or path.exists():
        return None, path
    return name.strip(), local_path(rest)


def _files_in(folder: Path) -> Iterator[Path]:
    """The files of scores in a folder and its folders, in alphabetical order."""
    patterns = {pattern for one in FORMATS.values() for pattern in one.in_folders}
    candidates = sorted(
        {path for pattern in patterns for path in _limited(folder, folder.rglob(pattern)) if path.is_file()}
    )
    for path in candidates:
        if not is_hidden(path.relative_to(folder)) and _is_recognised(path):
            yield path


def _limited(folder: Path, paths: Iterable[Path]) -> Iterator[Path]:
    for count, path in enumerate(paths):
        if count >= _MOST_FILES:
            raise UserError(f"{folder}: more than {_MOST_FILES:,} files; name a folder of scores, or the files")
        yield path


def _is_recognised(path: Path) -> bool:
    file = ScoreFile(str(path))
    return any(
        one.recognises(file) for one in FORMATS.values() if any(path.match(pattern) for pattern in one.in_folders)
    )
