"""A study from a preset, a TOML file and flags, with every name and value checked against the registry of methods."""

import re
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuneoff import methods
from tuneoff.errors import UserError
from tuneoff.metrics.registry import deciding_metric
from tuneoff.results.baselines import EXTRACTIVE_ROWS
from tuneoff.spec import StudySpec
from tuneoff.spec.toml import Override, SourcedSpec, read_toml
from tuneoff.study.task_words import follow_task
from tuneoff.verdict.claims import check_claims

ROW_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # also the name of a file


def read_study(
    file: Path | None = None,
    preset: str | None = None,
    overrides: Sequence[Override] = (),
) -> StudySpec:
    """The study that a file or a preset describes, with `overrides` applied; checked down to every hyper-parameter.

    Words that it does not set follow from its instruction (`follow_task`).

    Raises `UserError` as `read_toml` does, for an unknown method or hyper-parameter, and for a useless override.
    """
    return _checked(read_toml(file, preset, overrides))


def check_study(study: StudySpec) -> StudySpec:
    """A spec that was made in Python, checked as `read_study` checks one from a file."""
    return _checked(SourcedSpec(study, None, ()))


def parse_setting(text: str, method: str | None = None) -> Override:
    """`lora.learning_rate=1e-3` as an override. `method` replaces a missing prefix (`tuneoff train`).

    The value is read as the type of the default: text, names separated by commas, otherwise TOML.
    """
    flag = f"--set {text}"
    key, equals, value = (part.strip() for part in text.partition("="))
    owner, dot, name = key.partition(".")
    if not dot and method is not None:
        owner, name = method, key
    if not equals or not owner or not name:
        form = "NAME=VALUE" if method is not None else "METHOD.NAME=VALUE, for example lora.learning_rate=1e-3"
        raise UserError(f"{flag}: should have the form {form}")
    owner = owner.replace("-", "_")
    known = owner in methods.METHODS or owner.startswith(methods.peft_type.PREFIX)
    default = methods.defaults(owner).get(name) if known else None
    return Override(("hyperparameters", owner, name), _value(value, default), flag)


def _value(text: str, default: Any) -> Any:
    """The typed text as a value of the default's type."""
    if isinstance(default, str):
        return text
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(","))
    try:
        parsed = tomllib.loads(f"value = {text}\n")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if set(parsed) == {"value"} else text


def _checked(sourced: SourcedSpec) -> StudySpec:
    """Check names and values against the registry; keep the hyper-parameters of the methods that will run."""
    study = sourced.spec
    for name in study.methods:
        with _prefixed(sourced.place(("methods",))):
            methods.build(name, {})
    for name in study.predictions:
        if not ROW_NAME.fullmatch(name) or name in EXTRACTIVE_ROWS or name in methods.METHODS:
            place = sourced.place(("predictions", name))
            raise UserError(
                f"{place}: the row name {name!r} is already used, or has characters other than letters, digits, . _ -"
            )
    if study.until_settled and len(study.methods) + len(study.predictions) < 2:
        place = sourced.place(("until_settled",))
        raise UserError(f"{place}: with one method there is nothing to settle; add a method, or leave it out")
    for name in study.steps:
        if name not in study.methods:
            place = sourced.place(("steps", name))
            raise UserError(f"{place}: `steps` names {name}, which the study does not compare")
    for name, values in study.hyperparameters.items():
        for key, value in values.items():
            path = ("hyperparameters", name, key)
            place = sourced.place(path)
            with _prefixed(place):
                methods.build(name, {key: value})
            if name not in study.methods and any(override.path == path for override in sourced.overrides):
                chosen = ", ".join(study.methods)
                raise UserError(
                    f"{place}: {name} is not among the methods of this study ({chosen}); add it to --methods"
                )
        with _prefixed(sourced.place(("hyperparameters", name))):
            methods.build(name, values)
    with _prefixed(sourced.place(("metric",))):
        metric = deciding_metric(study.metric)
    check_claims(study.claims, study.methods, study.fractions, Path(sourced.name))
    kept = {name: values for name, values in study.hyperparameters.items() if name in study.methods}
    return follow_task(study.model_copy(update={"hyperparameters": kept, "metric": metric}))


@contextmanager
def _prefixed(place: str) -> Iterator[None]:
    """Prefix the message of a `UserError` with the place."""
    try:
        yield
    except UserError as error:
        raise (error if place == "study" else UserError(f"{place}: {error}")) from error
