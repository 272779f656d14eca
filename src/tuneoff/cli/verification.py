"""The output of `tuneoff verify`."""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tuneoff.results.verification import CheckedFile, State
from tuneoff.text import plural, sanitize

_SHOWN: tuple[State, ...] = ("damaged", "missing", "unknown")


def is_whole(files: Sequence[CheckedFile]) -> bool:
    """Whether no file is damaged or missing."""
    return not any(file.state in ("damaged", "missing") for file in files)


def files_as_json(folder: Path, files: Sequence[CheckedFile]) -> str:
    """One JSON object."""
    plain = {"folder": str(folder), "whole": is_whole(files), "files": [dataclasses.asdict(file) for file in files]}
    return json.dumps(plain)


def files_as_text(folder: Path, files: Sequence[CheckedFile]) -> str:
    """A line for each file that is not whole, and how many there are of each kind."""
    lines = [
        f"{file.state:<8} {file.path}" + (f"  ({file.why})" if file.why else "")
        for state in _SHOWN
        for file in files
        if file.state == state
    ]
    counts = Counter(file.state for file in files)
    said = ", ".join(f"{counts[state]} {state}" for state in (*_SHOWN, "left out"))
    lines.append(f"{folder}: {plural(len(files), 'file')}: {counts['whole']} whole, {said}")
    if not is_whole(files):
        lines.append(
            "To make it whole: restore these files, or run the command that made the study again; it moves what is "
            "damaged aside and computes it again."
        )
    return "\n".join(map(sanitize, lines))
