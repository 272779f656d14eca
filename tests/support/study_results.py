"""What of a study must be the same, bit by bit, however often it was interrupted: all but times and notes about it."""

import json
from pathlib import Path
from typing import Any

from tuneoff.results.study_dir import DAMAGED

# Written again at each start, or different from one start to the next by their nature.
_OTHERS = frozenset(
    {".lock", "manifest.json", "outputs.json", "summary.json", "log.txt", "events.jsonl", "report.html"}
)
_TIMES = frozenset(
    {
        "started_at",
        "finished_at",
        "seconds",
        "spent_seconds",
        "timeline",
        "resources",
        "machine",
        "saved",
        "measured",
        "commit",
    }
)
# Notes about what happened, not about what was computed.
_ABOUT_FAULTS = ("interrupted attempt", "an earlier attempt was interrupted", "no checkpoint could be written")


def results_of(folder: Path) -> dict[str, bytes]:
    """Every file of a study by its path, without what may differ."""
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name: _plain(path)
        for name, path in files.items()
        if path.name not in _OTHERS and not name.startswith((f"{DAMAGED}/", "figures/"))
    }


def _plain(path: Path) -> bytes:
    """The bytes of a file; of JSON with times, the rest of it."""
    content = path.read_bytes()
    if path.name not in ("record.json", "search.json", "budget.json"):
        return content
    return json.dumps(_without_times(json.loads(content)), sort_keys=True, indent=1).encode()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_times(item) for key, item in value.items() if key not in _TIMES}
        if isinstance(notes := kept.get("notes"), list):
            kept["notes"] = [note for note in notes if not any(words in str(note) for words in _ABOUT_FAULTS)]
        return kept
    return [_without_times(item) for item in value] if isinstance(value, list) else value


def differences(expected: dict[str, bytes], folder: Path) -> list[str]:
    """The names of the files that are missing, new or different, with the first line that differs."""
    found = results_of(folder)
    return [
        f"{name}: {_first_difference(expected.get(name), found.get(name))}"
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    ]


def _first_difference(one: bytes | None, other: bytes | None) -> str:
    if one is None or other is None:
        return "new" if one is None else "missing"
    for left, right in zip(one.splitlines(), other.splitlines(), strict=False):
        if left != right:
            return f"{left[:80]!r} / {right[:80]!r}"
    return f"{len(one)} / {len(other)} bytes"
