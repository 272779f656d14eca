"""Text for people: lists, suggestions, durations, and untrusted text made safe for a terminal."""

import contextlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, TextIO

_DURATION = re.compile(r"(?:(?P<h>[0-9.]+)h)?(?:(?P<m>[0-9.]+)m(?:in)?)?(?:(?P<s>[0-9.]+)s)?")
# Control codes (C0, DEL, C1), separators of lines, marks of direction, annotations, surrogates, tags.
_ACTING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_SECONDS = {"h": 3600, "m": 60, "s": 1}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)
_BYTES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class LastingStream:
    """A text stream that drops what cannot be written: its terminal is gone, or its reader has left."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write `text`, or drop it; its length."""
        with contextlib.suppress(OSError, ValueError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream if that is possible."""
        with contextlib.suppress(OSError, ValueError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def join_words(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def plural(number: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean x?` if a known word is close, else the list of known words."""
    names = sorted(known)
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean `{close[0]}`?" if close else f"; known are {', '.join(names)}"


def format_duration(seconds: float) -> str:
    """`8 s`, `3 min 20 s`, `2 h 5 min`; `an unknown time` for NaN and infinities."""
    if not math.isfinite(seconds):
        return "an unknown time"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def parse_duration(text: str) -> float | None:
    """Seconds of `20m`, `1h30m`, `90s` or `1.5h`; None for anything else."""
    found = _DURATION.fullmatch(text.replace(" ", ""))
    try:
        seconds = sum(
            float(part) * _SECONDS[unit] for unit, part in (found.groupdict() if found else {}).items() if part
        )
    except ValueError:
        return None
    return seconds if 0 < seconds < math.inf else None


def parse_size(text: str) -> int | None:
    """Bytes of `16G`, `512M` or `1.5 GB`; None for anything else."""
    found = _SIZE.fullmatch(text.strip())
    return None if found is None else int(float(found[1]) * _BYTES[found[2].upper()])


def sanitize(text: str, keep: str = "") -> str:
    """`text` with everything that acts on a terminal or hides what is there replaced by `?`.

    That is control codes, marks of direction, line separators, tags and lone surrogates. Joiners and special spaces
    stay, because words of many languages contain them. Characters in `keep`, such as the line feed, stay too.
    """
    return _ACTING.sub(lambda found: found[0] if found[0] in keep else "?", text)


def escape_json(text: str) -> str:
    """A JSON text that means the same and holds no character that `sanitize` replaces, except for line feeds."""
    return _ACTING.sub(lambda found: found[0] if found[0] == "\n" else _json_escape(found[0]), text)


def _json_escape(character: str) -> str:
    return json.dumps(character)[1:-1] if ord(character) > 127 else f"\\u{ord(character):04x}"
