"""Points of curves and timelines as columns: a study of hundreds of runs holds a hundred times as many of them."""

import math
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, get_args, overload

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

Point = TypeVar("Point", bound=BaseModel)


class PackedPoints(Sequence[Point]):
    """Points that are made when they are used. Numbers take 8 bytes each; an optional number that is None is a NaN."""

    __slots__ = ("_columns", "_kind", "_length", "_optional")

    def __init__(self, kind: type[Point], points: Sequence[Point]) -> None:
        """Raises `OverflowError` for an integer of more than 64 bits."""
        self._kind, self._length = kind, len(points)
        self._columns: dict[str, Sequence[Any]] = {
            name: _column(field.annotation, [getattr(point, name) for point in points])
            for name, field in kind.model_fields.items()
        }
        self._optional = [name for name, field in kind.model_fields.items() if field.annotation == float | None]

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, at: int) -> Point: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Point, ...]: ...
    def __getitem__(self, at: int | slice) -> Point | tuple[Point, ...]:
        if isinstance(at, slice):
            return tuple(self._point(index) for index in range(self._length)[at])
        return self._point(range(self._length)[at])

    def __iter__(self) -> Iterator[Point]:
        return (self._point(index) for index in range(self._length))

    def column(self, name: str) -> Sequence[Any]:
        """The values of one field, as they are held."""
        return self._columns[name]

    def _point(self, index: int) -> Point:
        values = {name: column[index] for name, column in self._columns.items()}
        for name in self._optional:
            if math.isnan(values[name]):
                values[name] = None
        return self._kind.model_construct(**values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


def column(points: Sequence[Point], name: str) -> Sequence[Any]:
    """The values of a field that is a number and known of every point."""
    return points.column(name) if isinstance(points, PackedPoints) else [getattr(point, name) for point in points]


def _column(annotation: Any, values: list[Any]) -> Sequence[Any]:
    if annotation is int:
        return array("q", values)
    if annotation is float:
        return array("d", values)
    if annotation == float | None:
        return array("d", [math.nan if value is None else value for value in values])
    shared: dict[Any, Any] = {}
    return [shared.setdefault(value, value) for value in values]


class Packed:
    """Marks a field of type `Sequence[Point]`, which is validated and stored like a tuple and held as columns."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        (kind,) = get_args(source)

        def pack(points: tuple[Point, ...]) -> Sequence[Point]:
            try:
                return PackedPoints(kind, points)
            except OverflowError:
                return points

        def unpack(value: object) -> object:
            return tuple(value) if isinstance(value, PackedPoints) else value

        plain = core_schema.tuple_schema([handler.generate_schema(kind)], variadic_item_index=0)
        packed = core_schema.no_info_after_validator_function(pack, plain)
        return core_schema.json_or_python_schema(
            json_schema=packed,
            python_schema=core_schema.no_info_before_validator_function(unpack, packed),
            serialization=core_schema.wrap_serializer_function_ser_schema(
                lambda points, write: write(tuple(points)), schema=plain
            ),
        )
