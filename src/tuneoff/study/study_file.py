"""A study from a preset, a TOML file and flags, with every name and value checked against the registry of methods."""

import re
from collections.abc import Sequence
from pathlib import Path

from tuneoff import methods
from tuneoff.errors import UserError
from tuneoff.methods.rows import typed_value
from tuneoff.metrics.registry import deciding_metric
from tuneoff.results.baselines import EXTRACTIVE_ROWS
from tuneoff.spec import DataSpec, StudySpec
from tuneoff.spec.row_names import MARK, method_of
from tuneoff.spec.run import MOST_BEAMS, MOST_TEXTS_AT_ONCE
from tuneoff.spec.study import MOST_SEEDS
from tuneoff.spec.toml import Override, SourcedSpec, read_toml
from tuneoff.study.row_settings import check_distinct, prefixed, with_rows
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


def check_largest(sourced: SourcedSpec) -> None:
    """Raise `UserError` for a number beyond what a study may ask for. What is stored may be larger."""
    study = sourced.spec
    for path, value, most in (
        (("seeds",), study.seeds, MOST_SEEDS),
        (("generate", "num_beams"), study.generate.num_beams, MOST_BEAMS),
        (("generate", "batch_size"), study.generate.batch_size, MOST_TEXTS_AT_ONCE),
    ):
        if value > most:
            raise UserError(f"{sourced.place(path)}: `{path[-1]}` should be less than or equal to {most}, not {value}")


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
    named, mark, rest = owner.partition(MARK)
    named = named.replace("-", "_")
    known = named in methods.METHODS or named.startswith(methods.peft_type.PREFIX)
    default = methods.defaults(named).get(name) if known else None
    return Override(("hyperparameters", f"{named}{mark}{rest}", name), typed_value(value, default), flag)


def _checked(sourced: SourcedSpec) -> StudySpec:
    """Check names and values against the registry; keep the hyper-parameters of the methods that will run."""
    check_largest(sourced)
    study = with_rows(sourced)
    for name in study.predictions:
        if not ROW_NAME.fullmatch(name) or name in EXTRACTIVE_ROWS or name in methods.METHODS:
            place = sourced.place(("predictions", name))
            raise UserError(
                f"{place}: the row name {name!r} is already used, or has characters other than letters, digits, . _ -"
            )
    if study.until_settled and len(study.methods) + len(study.predictions) < 2:
        place = sourced.place(("until_settled",))
        raise UserError(f"{place}: with one method there is nothing to settle; add a method, or leave it out")
    _check_folds(study, sourced)
    for name in study.steps:
        if name not in study.methods:
            place = sourced.place(("steps", name))
            raise UserError(f"{place}: `steps` names {name}, which the study does not compare")
    compared = {*study.methods, *map(method_of, study.methods)}  # a method's settings hold for its rows
    for name, values in study.hyperparameters.items():
        for key, value in values.items():
            path = ("hyperparameters", name, key)
            place = sourced.place(path)
            with prefixed(place):
                methods.build(name, {key: value})
            if name not in compared and any(override.path == path for override in sourced.overrides):
                chosen = ", ".join(study.methods)
                raise UserError(
                    f"{place}: {name} is not among the methods of this study ({chosen}); add it to --methods"
                )
        with prefixed(sourced.place(("hyperparameters", name))):
            methods.build(name, values)
    with prefixed(sourced.place(("metric",))):
        metric = deciding_metric(study.metric)
    check_claims(study.claims, study.methods, study.fractions, Path(sourced.name))
    kept = {name: values for name, values in study.hyperparameters.items() if name in compared}
    checked = follow_task(study.model_copy(update={"hyperparameters": kept, "metric": metric}))
    check_distinct(checked, sourced.place(("methods",)))
    return checked


def _check_folds(study: StudySpec, sourced: SourcedSpec) -> None:
    """Raise `UserError` for what cross-validation cannot be combined with."""
    if study.data.folds is None:
        return
    orders = any(claim.kind in ("cost_order", "loss_order", "best_early") for claim in study.claims)
    for path, is_given, why in (
        (("fractions",), study.fractions != (1.0,), "all folds use all the data; leave out --fractions"),
        (("until_settled",), study.until_settled, "the seeds of all folds are fixed; leave out --until-settled"),
        (("data", "test_share"), study.data.test_share != DataSpec.model_fields["test_share"].default,
         "each fold is the test split once; leave out --test-share"),
        (("claims",), orders, "claims about orders of costs or losses are of one split; remove them"),
    ):  # fmt: skip
        if is_given:
            raise UserError(f"{sourced.place(path)}: with --folds {study.data.folds}, {why}")
