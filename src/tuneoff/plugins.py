"""Extension points: what other installed packages add to tuneoff, found by their entry points."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from typing import Generic, TypeVar

from tuneoff.errors import UserError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Built-in entries by name, followed by the entry points of `group` in other packages.

    Iterating and `in` read the names only. Another package is imported when its entry is looked up.

    Args:
        group: Name of the group of entry points, such as `tuneoff.methods`.
        built_in: The entries that come with tuneoff.
        check: Receives the name of an entry point and the object that it loads, and returns the entry. It raises
            `ValueError`, with the reason, if the object is not usable.

    Raises:
        UserError: When the names are read, if two packages use one name or a package uses a built-in name; when an
            entry is looked up, if its package cannot be imported or `check` refuses the object.
    """

    def __init__(self, group: str, built_in: Mapping[str, T], check: Callable[[str, object], T]) -> None:
        self._group, self._built_in, self._check = group, dict(built_in), check
        self._loaded: dict[tuple[str, tuple[str, ...]], T] = {}  # by name and `sys.path`

    def __getitem__(self, name: str) -> T:
        if name in self._built_in:
            return self._built_in[name]
        entry, key = self._entry_points()[name], (name, tuple(sys.path))
        if key not in self._loaded:
            try:
                self._loaded[key] = self._check(name, entry.load())
            except Exception as error:  # importing the code of another package can raise anything
                why = str(error) if isinstance(error, ValueError | UserError) else f"{type(error).__name__}: {error}"
                raise UserError(
                    f"the package {_package(entry)} adds {name!r} ({self._group}), which cannot be used ({why}); "
                    "update or uninstall that package"
                ) from error
        return self._loaded[key]

    def __iter__(self) -> Iterator[str]:
        yield from self._built_in
        yield from self._entry_points()

    def __len__(self) -> int:
        return len(self._built_in) + len(self._entry_points())

    def __contains__(self, name: object) -> bool:
        return name in self._built_in or name in self._entry_points()

    def _entry_points(self) -> dict[str, metadata.EntryPoint]:
        found: dict[str, metadata.EntryPoint] = {}
        for entry in _entry_points_of(self._group, tuple(sys.path)):
            if entry.name in self._built_in or entry.name in found:
                owner = "tuneoff" if entry.name in self._built_in else f"the package {_package(found[entry.name])}"
                raise UserError(
                    f"the package {_package(entry)} adds {entry.name!r} ({self._group}), but {owner} already has that "
                    "name; uninstall one of the packages or ask its author to rename the entry point"
                )
            found[entry.name] = entry
        return found


@functools.cache
def _entry_points_of(group: str, _path: tuple[str, ...]) -> tuple[metadata.EntryPoint, ...]:
    """Entry points in order of their names. Packages are searched once for each value of `sys.path`."""
    return tuple(sorted(metadata.entry_points(group=group), key=lambda entry: (entry.name, _package(entry))))


def _package(entry: metadata.EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module
