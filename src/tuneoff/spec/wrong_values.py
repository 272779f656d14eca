"""What is wrong with a value of a study, in plain words instead of pydantic's."""

from collections.abc import Mapping
from datetime import date, time
from typing import Any

from pydantic_core import ErrorDetails

KeyPath = tuple[str | int, ...]

_NUMBER = "should be a number"
_WHOLE = "should be a whole number"
_SWITCH = "should be true or false"
_TABLE = "should be a table"
_TEXT = "should be a text"
_FILES = "should be the name of a file, or a list of names"
_SIZE = "should be a fraction between 0 and 1, or a whole number of documents"

# The start of a type of error -> what was expected.
_NAME = "should be 1 to 64 letters, digits and . _ - without spaces, and not dots alone"
_EXPECTED = {
    "bool_": _SWITCH,
    "dict_type": _TABLE,
    "finite_number": "should be a finite number",
    "float_": _NUMBER,
    "int_": _WHOLE,
    "list_type": "should be a list in brackets",
    "model_": _TABLE,
    "string_pattern": _NAME,
    "string_too_long": _NAME,
    "string_too_short": "should not be empty",
    "string_type": _TEXT,
    "too_short": "should have at least one entry",
    "tuple_type": "should be a list in brackets",
}
# What pydantic says of a bound or of a choice is plain, behind its first word.
_PLAIN = ("greater_than", "less_than", "literal_error", "greater_than_equal", "less_than_equal")
# Settings of several types.
_OF_SEVERAL_TYPES = {
    "train_file": _FILES,
    "validation_file": _FILES,
    "test_file": _FILES,
    "validation_share": _SIZE,
    "test_share": _SIZE,
}
_LISTS = {"claims": "should be a list of tables: write [[claims]] and its keys below it"}


def setting_of(error: ErrorDetails, document: Mapping[str, Any]) -> KeyPath:
    """The path of the setting that an error is about. pydantic's own path goes on with the branch of a type."""
    path = error["loc"]
    found: Any = document
    for index, part in enumerate(path):
        try:
            found = found[part]
        except (KeyError, IndexError, TypeError):
            return path[: index + 1] if error["type"] in ("missing", "extra_forbidden") else path[:index]
    return path


def expectation(error: ErrorDetails, path: KeyPath) -> str:
    """What the setting at `path` should be."""
    key = str(next((part for part in reversed(path) if isinstance(part, str)), ""))
    if len(error["loc"]) > len(path):
        if path[:1] == ("hyperparameters",):
            return "should be a number, a text, true, false or a list of texts"
        return _OF_SEVERAL_TYPES.get(key, "has a value of another type")
    kind = error["type"]
    if kind == "tuple_type" and key in _LISTS:
        return _LISTS[key]
    if kind in _PLAIN:
        return error["msg"].removeprefix("Input ")
    return next((words for start, words in _EXPECTED.items() if kind.startswith(start)), "has a wrong value")


def shown(document: Any, path: KeyPath) -> str:
    """The value at `path` as it is typed, short."""
    for key in path:
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):
            break
    if isinstance(document, bool):
        return str(document).lower()
    text = str(document) if isinstance(document, date | time) else repr(document)
    return text if len(text) <= 60 else text[:57] + "..."
