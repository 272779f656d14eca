"""Texts of documents, models and users are hostile: how they may stand in a page, a data block and a picture."""

import json
import re
from typing import Any

from tuneoff.results.run_record import plain_numbers

# Control characters, direction marks and overrides, lone surrogates, and what XML forbids: the renderer of pictures
# dies of those.
_ACTS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff"
_INVISIBLE = re.compile(f"[{_ACTS}]")
_IN_JSON = re.compile(f"[<>&{_ACTS}]")


def embedded_json(value: Any) -> str:
    """JSON for a data block of a page: nothing in it can end the block, and no character is outside of UTF-8."""
    text = json.dumps(plain_numbers(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def visible(text: object) -> str:
    """Text in which control characters and direction overrides are shown by their code instead of acting."""
    return _INVISIBLE.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", str(text))


def all_visible(value: Any) -> Any:
    """A JSON value with every string in it made `visible`."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(key): all_visible(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [all_visible(item) for item in value]
    return value
