"""The rows of a study: each method, or setting of a method, under one name and with all that is set for it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tuneoff import methods
from tuneoff.errors import UserError
from tuneoff.methods.rows import Row, parse_row
from tuneoff.spec import StudySpec
from tuneoff.spec.row_names import MARK, file_name_of
from tuneoff.spec.run import Scalar
from tuneoff.spec.toml import SourcedSpec
from tuneoff.study.search import searched_hyperparameter

Settings = Mapping[str, Scalar]


def with_rows(sourced: SourcedSpec) -> StudySpec:
    """The study with every row under its one name, and `hyperparameters` complete for each row.

    A row has what the study sets for its method, what it sets for the row itself, and what the row's name says.

    Raises `UserError` for a name that is not a row, for settings that contradict each other, for a row that sets
    what trials search, and for two rows with one name.
    """
    study = sourced.spec
    with prefixed(sourced.place(("methods",))):
        rows = [parse_row(name) for name in study.methods]
        _check_names(rows)
    tables: dict[str, Settings] = {}
    for name, values in study.hyperparameters.items():
        tables[_canonical(name, sourced, ("hyperparameters", name))] = values
    settings: dict[str, Settings] = {}
    for row in rows:
        if MARK in row.name:
            settings[row.name] = _of_row(row, tables, study, sourced)
    steps = {_canonical(name, sourced, ("steps", name)): count for name, count in study.steps.items()}
    claims = tuple(
        claim.model_copy(update={"methods": tuple(_canonical(name, sourced, ("claims",)) for name in claim.methods)})
        for claim in study.claims
    )
    return study.model_copy(
        update={
            "methods": tuple(row.name for row in rows),
            "hyperparameters": {**tables, **settings},
            "steps": steps,
            "claims": claims,
        }
    )


def check_distinct(study: StudySpec, place: str) -> None:
    """Raise `UserError` for two rows that are the same after all defaults."""
    seen: dict[str, str] = {}
    for name in study.methods:
        built = methods.build(name, study.hyperparameters.get(name, {}))
        same = f"{built.name} {built.hyperparameters}"
        if same in seen:
            raise UserError(f"{place}: {seen[same]} and {name} are the same after defaults; leave one of them out")
        seen[same] = name


@contextmanager
def prefixed(place: str) -> Iterator[None]:
    """Prefix the message of a `UserError` with the place."""
    try:
        yield
    except UserError as error:
        raise (error if place == "study" else UserError(f"{place}: {error}")) from error


def _canonical(name: str, sourced: SourcedSpec, path: tuple[str, ...]) -> str:
    """The one name of a row that the study mentions. A name without settings stays as it is."""
    if MARK not in name:
        return name
    with prefixed(sourced.place(path)):
        return parse_row(name).name


def _check_names(rows: list[Row]) -> None:
    files: dict[str, str] = {}
    for row in rows:
        file = file_name_of(row.name).lower()
        if file in files:
            same = "is named twice" if files[file] == row.name else f"has the same name in files as {files[file]}"
            raise UserError(f"{row.name} {same}; leave one of them out, or give it a name of its own")
        files[file] = row.name


def _of_row(row: Row, tables: Mapping[str, Settings], study: StudySpec, sourced: SourcedSpec) -> Settings:
    """All that the study sets for a row."""
    shared = tables.get(row.method, {})
    table = {key: value for key, value in tables.get(row.name, {}).items() if shared.get(key) != value}
    path = ("hyperparameters", row.name)
    for key, value in row.settings.items():
        if table.get(key, value) != value:
            raise UserError(f"{sourced.place((*path, key))}: {row.name} says {key} already; leave it out here")
    own = {**table, **row.settings}
    if not own:
        raise UserError(
            f"{sourced.place(('methods',))}: {row.name} has no settings, so it is {row.method}; set them below "
            f'[hyperparameters."{row.name}"], or write {row.method}{MARK}NAME=VALUE'
        )
    searched = searched_hyperparameter(row.method, shared)
    if study.trials and searched in own:
        raise UserError(
            f"{sourced.place(('methods',))}: {row.name} sets {searched}, which trials search for every row; leave it "
            "out of the row, or give --trials 0"
        )
    return {**shared, **own}
