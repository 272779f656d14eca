"""Records of one study share what they have in common.

Each alone takes 40 KB of memory. Most of it says the same in all of them: data, prompt, training, versions, machine,
which fields were given, and why nothing measured the energy.
"""

from collections.abc import Hashable

from pydantic import BaseModel

from tuneoff.results.run_record import Record

_MOST = 10_000  # parts that are kept; then a new table begins
_known: dict[Hashable, BaseModel] = {}
_known_fields: dict[frozenset[str], set[str]] = {}


def share_parts(record: Record) -> None:
    """Replace parts of a record that was just read by equal ones of earlier records. It is changed in place."""
    phases = () if record.resources is None else record.resources.phases.values()
    for part in (record, record.spec, record.resources, *phases):
        if part is not None:
            share_inside(part)


def share_inside(part: BaseModel) -> None:
    """Replace what a new object holds by equal objects. The object itself is none that is there again."""
    _share_fields(part)
    for name, value in vars(part).items():
        if isinstance(value, BaseModel):
            if name in _OWN:
                _share_fields(value)
            else:
                vars(part)[name] = _shared(value)


_OWN = frozenset({"spec", "resources", "curve", "failure"})  # of a record, hardly ever equal


def _share_fields(part: BaseModel) -> None:
    given = part.model_fields_set
    object.__setattr__(part, "__pydantic_fields_set__", _known_fields.setdefault(frozenset(given), given))


def _shared(part: BaseModel) -> BaseModel:
    if len(_known) >= _MOST:
        _known.clear()
    _share_fields(part)
    return _known.setdefault(_key(part), part)


def _key(value: object) -> Hashable:
    """Equal for values that are the same in every respect: 1, 1.0 and True are not."""
    if isinstance(value, BaseModel):
        fields = tuple([_key(each) for each in vars(value).values()])
        return type(value), fields, _key(value.model_extra), frozenset(value.model_fields_set)
    if isinstance(value, dict):
        return tuple([(name, _key(each)) for name, each in value.items()])
    if isinstance(value, list | tuple):
        return type(value), tuple([_key(each) for each in value])
    return type(value), value
