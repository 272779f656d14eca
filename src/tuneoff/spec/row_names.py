"""Names of the rows that a study compares: a method such as `lora`, or a setting of it such as `lora@r=64`.

A row is known by its name alone, in records, plans, verdicts and files. What follows the first `@` is either settings,
`NAME=VALUE` each and separated by `@`, or a name that the study file gives to settings of its own.
"""

import re

MARK = "@"
_UNSAFE_IN_FILE_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_FILE_NAME = 80
_DIGITS = re.compile(r"(\d+)")


def method_of(row: str) -> str:
    """The method of a row."""
    return row.partition(MARK)[0]


def file_name_of(row: str) -> str:
    """A row's name as part of the name of a file or folder: letters, digits and `. _ -`."""
    return _UNSAFE_IN_FILE_NAMES.sub("-", row)[:_LONGEST_FILE_NAME].rstrip("-.")


def ascending(row: str) -> tuple[str, tuple[tuple[int, str], ...]]:
    """A key that sorts the rows of a method: the method itself first, and r=8 before r=64."""
    method, _, settings = row.partition(MARK)
    return method, tuple((int(part) if part.isdigit() else -1, part) for part in _DIGITS.split(settings))
