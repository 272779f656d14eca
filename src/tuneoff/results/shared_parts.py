"""Records of one study share what they have in common.

Each alone takes 40 KB of memory. Most of it says the same in all of them: data, prompt, training, versions, machine,
which fields were given, and why nothing measured the energy.
"""

from collections.abc import Collection, Hashable

from pydantic import BaseModel

from tuneoff.results.run_record import Record

_OWN = ("spec", "resources", "curve", "failure")  # of a record: hardly ever equal to another's
_MOST = 10_000  # parts that are kept; then a new table begins
_known: dict[Hashable, BaseModel] = {}
_known_fields: dict[frozenset[str], set[str]] = {}


def share_parts(record: Record) -> None:
    """Replace parts of a record that was just read by equal parts of earlier ones. It is changed in place."""
    share_inside(record, but=_OWN)
    share_inside(record.spec)
    if record.resources is not None:
        for phase in record.resources.phases.values():
            share_inside(phase)


def share_inside(whole: BaseModel, but: Collection[str] = ()) -> None:
    """Replace the parts of a new object, but those named, by equal ones that other objects hold."""
    _share_fields(whole)
    for name, part in vars(whole).items():
        if isinstance(part, BaseModel):
            if name in but:
                _share_fields(part)
            else:
                vars(whole)[name] = _shared(part)


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
