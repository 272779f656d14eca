"""The texts that `tuneoff summarize` writes for new documents: to stdout as they come, or to a file as a whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tuneoff.cli import DONE, SOME_FAILED
from tuneoff.cli.documents import LeftOut, NewDocuments, text_line
from tuneoff.cli.output import say, show, show_json
from tuneoff.errors import UserError
from tuneoff.options import STANDARD_INPUT
from tuneoff.results.json_files import write_text_atomic
from tuneoff.text import plural

if TYPE_CHECKING:
    from tuneoff.long_documents import Long
    from tuneoff.run import NewText

JSON_LINES = (".jsonl", ".ndjson")
MOST_TO_LIST = 10  # rows that are left out


def check_output(output: Path, sources: Iterable[str]) -> None:
    """Raise `UserError` if texts cannot be written to this file, before a model is loaded."""
    folder = output.absolute().parent
    if output.is_dir():
        raise UserError(f"--output {output}: a folder; name a file, such as {output / 'texts.jsonl'}")
    if not folder.is_dir():
        raise UserError(f"--output {output}: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK):
        raise UserError(f"--output {output}: the folder {folder} cannot be written to; name a file in another folder")
    for source in sources:
        with contextlib.suppress(OSError):  # of a pattern
            if source != STANDARD_INPUT and output.samefile(source):
                raise UserError(f"--output {output}: the texts would replace the documents; name another file")


def check_long(rule: str) -> Long:
    """What `--long` asks for. Raises `UserError` for anything unknown."""
    known: dict[str, Long] = {"cut": "cut", "map-reduce": "map-reduce", "map_reduce": "map-reduce"}
    if rule not in known:
        raise UserError(f"--long {rule}: use cut or map-reduce")
    return known[rule]


def report_texts(texts: Iterator[NewText], found: NewDocuments, output: Path | None, *, as_json: bool) -> int:
    """Write the texts, and to stderr what is left out, cut or read in parts. Returns the exit code.

    JSON Lines hold ids. Without them, each document has one line, which is empty if it is left out, so that line n
    belongs to document n. A file is written at the end, at once, and has every text as it is; on stdout, control codes
    in texts are replaced, in JSON by escapes.
    """
    for caution in found.cautions:
        say(f"tuneoff: {caution}")
    for row in found.left_out[:MOST_TO_LIST]:
        say(f"tuneoff: left out: {row.reason}")
    if (more := len(found.left_out) - MOST_TO_LIST) > 0:
        say(f"tuneoff: left out: {more} more")
    as_json = as_json or (output is not None and output.suffix.lower() in JSON_LINES)
    lines, left_out = [], 0
    for entry in found.entries:
        new = None if isinstance(entry, LeftOut) else next(texts)
        if new is not None and new.text is None:
            say(f"tuneoff: left out: document {new.id}: its fields leave no room for its text; shorten them")
        if new is not None and new.parts:
            say(f"tuneoff: document {new.id}: read in {plural(new.parts, 'part')}; its text is made of their texts")
        if new is not None and new.is_cut:
            say(f"tuneoff: document {new.id}: {new.cut_sentence}")
        if new is None or new.text is None:
            left_out += 1
            if as_json:
                continue
            line = ""
        else:
            line = text_line(new.id, new.text) if as_json else _in_a_line(new.text)
        if output is None:
            (show_json if as_json else show)(line)
        lines.append(line)
    if output is not None:
        write_text_atomic(output, "".join(f"{line}\n" for line in lines))
        say(f"tuneoff: {plural(len(found.entries) - left_out, 'text')} written to {output}")
    return SOME_FAILED if left_out else DONE


def _in_a_line(text: str) -> str:
    return " ".join(text.split())
