"""Records of one study share what they have in common.

Each alone takes 40 KB of memory. Most of it says the same in all of them: data, prompt, training, versions, machine,
and why nothing measured the energy.
"""

from collections.abc import Hashable, Mapping
from typing import TypeVar

from pydantic import BaseModel

from tuneoff.results.run_record import Record

Part = TypeVar("Part", bound=BaseModel)
_MOST = 10_000  # parts that are kept; then a new table begins
_known: dict[Hashable, BaseModel] = {}


def with_shared_parts(record: Record) -> Record:
    """An equal record. Its parts are those of earlier records that are equal to them."""
    changed: dict[str, object] = {"spec": _inside(record.spec), "provenance": _shared(record.provenance)}
    if (resources := record.resources) is not None:
        phases = {name: _inside(phase) for name, phase in resources.phases.items()}
        changed["resources"] = _copy(resources, {"phases": phases})
    return _copy(record, changed)


def _inside(part: Part) -> Part:
    """With parts that are shared; what differs between records is not kept in the table."""
    return _copy(part, {name: _shared(value) for name, value in vars(part).items() if isinstance(value, BaseModel)})


def _copy(part: Part, changed: Mapping[str, object]) -> Part:
    return part.model_copy(update={name: value for name, value in changed.items() if name in part.model_fields_set})


def _shared(part: Part) -> Part:
    if len(_known) >= _MOST:
        _known.clear()
    known = _known.setdefault(_key(part), part)
    assert isinstance(known, type(part))
    return known


def _key(value: object) -> Hashable:
    """Equal for values that are the same in every respect: 1, 1.0 and True are not."""
    if isinstance(value, BaseModel):
        fields = tuple([_key(each) for each in vars(value).values()])
        return type(value), fields, frozenset(value.model_fields_set)
    if isinstance(value, dict):
        return tuple([(name, _key(each)) for name, each in value.items()])
    if isinstance(value, list | tuple):
        return type(value), tuple([_key(each) for each in value])
    return type(value), value
