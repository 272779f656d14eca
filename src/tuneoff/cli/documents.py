"""New documents for `tuneoff summarize`: one text, or JSONL with one document a line."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tuneoff.errors import UserError

TEXT_KEYS = ("document", "text", "article", "dialogue", "source")


def read_texts(source: str) -> dict[str, str]:
    """Id -> text. `-` is standard input; JSONL is told by its content, its ids from `id` or the line number.

    Raises `UserError` for a file that cannot be read, holds nothing, or mixes JSONL with other lines.
    """
    name = "standard input" if source == "-" else source
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 text; convert it first") from error
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror})") from error
    if not text.strip():
        raise UserError(f"{name}: empty; give a text, or JSONL with a `document` in each line")
    if not text.lstrip().startswith("{"):
        return {"1": text.strip()}
    texts: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            key, document = _row(f"{name}, line {number}", number, line)
            if key in texts:
                raise UserError(f"{name}, line {number}: the id {key!r} was there before; ids must differ")
            texts[key] = document
    return texts


def _row(place: str, number: int, line: str) -> tuple[str, str]:
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{place}: not JSON ({error.msg})") from error
    if not isinstance(row, dict):
        raise UserError(f"{place}: not a JSON object")
    key = next((key for key in TEXT_KEYS if isinstance(row.get(key), str) and row[key].strip()), None)
    if key is None:
        raise UserError(f"{place}: no text under {', '.join(TEXT_KEYS)}")
    return str(row.get("id", number)), row[key]


def fields_of(texts: Sequence[str]) -> dict[str, str]:
    """`NAME=VALUE` of --field: what the run's instruction names beside the document."""
    fields: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name):
            raise UserError(f"--field {text}: not of the form NAME=VALUE, for example aspect=approach")
        fields[name] = value
    return fields
