"""Untrusted text in pages and pictures: documents, generated texts and names may contain anything."""

import json
import re
from typing import Any

from tuneoff.results.json_files import finite_or_none

# Control characters, direction marks and overrides, lone surrogates, and what XML forbids: the renderer of pictures
# crashes on those. The same characters as in escaping.js.
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff"
_IN_TEXT = re.compile(f"[{_CONTROLS}]")
_IN_JSON = re.compile(f"[<>&{_CONTROLS}]")


def embedded_json(value: Any) -> str:
    """JSON for a data block of a page: nothing in it can end the block, and every character is valid UTF-8."""
    text = json.dumps(finite_or_none(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def escape_controls(text: object) -> str:
    """Text with control characters and direction overrides replaced by their code, such as `⟨U+202E⟩`."""
    return _IN_TEXT.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", str(text))


def escape_all_controls(value: Any) -> Any:
    """A JSON value with `escape_controls` applied to every string and key."""
    if isinstance(value, str):
        return escape_controls(value)
    if isinstance(value, dict):
        return {escape_controls(key): escape_all_controls(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [escape_all_controls(item) for item in value]
    return value
