"""Flags that take several values: repeated, or with the further values behind the first, as the shell expands a `*`."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PurePath

from tuneoff.cli.arguments import Piece, flag, needs_quotes
from tuneoff.errors import UserError
from tuneoff.spec.row_names import method_of
from tuneoff.text import join_words

FILES = {"--train-file": "train", "--validation-file": "validation", "--test-file": "test"}
# Beside those that name a format of rows: what is in such a file decides what it is.
_OTHER_DATA = (".arrow", ".txt", ".xls", ".zip")


def is_data_file(text: str) -> bool:
    """Whether the name of a file is that of data, not of a study."""
    from tuneoff.data.byte_source import COMPRESSED_SUFFIXES, data_suffix
    from tuneoff.data.files import has_data_suffix

    return has_data_suffix(text) or data_suffix(text) in _OTHER_DATA or text.lower().endswith(COMPRESSED_SUFFIXES)


def split_named(text: str) -> str | None:
    """The split that is a word in the name of a file, as in a folder of splits: `test.csv`, `papers_dev-2.jsonl`."""
    from tuneoff.data.archives import split_of

    return split_of(PurePath(text).name)


def gather(pieces: Sequence[Piece], method_names: Callable[[], Collection[str]]) -> list[Piece]:
    """The pieces of `compare` or `train` with each further value under the flag that it follows.

    A data file that follows no flag is training data. Raises `UserError` where the name of such a file says that it is
    of another split: expanded by a shell, `data/*.jsonl` may hold the test data.
    """
    gathered: list[Piece] = []
    owner: Piece | None = None  # the flag that the next word follows
    for index, piece in enumerate(pieces):
        if piece.name:
            gathered.append(piece)
            owner = piece if piece.value is not None else None
            continue
        if is_data_file(piece.typed):
            owner = owner if owner is not None and owner.name in FILES else None
            target = owner.name if owner else "--train-file"
            for text in [piece.typed, *([owner.value] if owner and owner.value else [])]:
                _check_split(text, target)
            gathered.append(flag(target, piece.typed))
        elif owner is not None and owner.name == "--methods" and _are_methods(piece.typed, method_names):
            gathered.append(flag("--methods", piece.typed))
        elif owner is not None and owner.name == "--fractions" and _is_number(piece.typed):
            gathered[-1] = flag("--fractions", f"{gathered[-1].value},{piece.typed}")
        elif owner is not None and owner.name == "--model" and not _is_argument(piece.typed, method_names):
            gathered.append(flag("--model", piece.typed))
        elif owner is not None and not _is_number(owner.value or "") and not _is_argument(piece.typed, method_names):
            raise needs_quotes(pieces, index)
        else:
            owner = None
            gathered.append(piece)
    return gathered


def _check_split(text: str, target: str) -> None:
    named = split_named(text)
    if named is None or named == FILES[target]:
        return
    flags = [name for name, split in FILES.items() if split == named]
    raise UserError(
        f"{text}: would be {FILES[target]} data, but its name says {named}; give each file its flag, here "
        f"{join_words(flags)} {text}, or {target} {text} if that is meant"
    )


def _are_methods(text: str, method_names: Callable[[], Collection[str]]) -> bool:
    names = [method_of(name.strip()).replace("-", "_") for name in text.split(",") if name.strip()]
    return bool(names) and all(name in method_names() or name.startswith("peft:") for name in names)


def _is_argument(text: str, method_names: Callable[[], Collection[str]]) -> bool:
    """Whether a word is a study file or the method of `train`."""
    return text.endswith(".toml") or Path(text).is_file() or _are_methods(text, method_names)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
