"""The table of settings that the command line and `compare` share."""

import typing
from collections.abc import Sequence

import pytest
from pydantic import TypeAdapter

from tuneoff.options import OPTION_PATHS, StrPath, StudyOptions
from tuneoff.spec import StudySpec


def test_the_keywords_of_compare_are_the_names_of_the_table() -> None:
    assert set(StudyOptions.__annotations__) == set(OPTION_PATHS)


def test_every_path_leads_to_a_field_of_the_study_and_no_two_are_equal() -> None:
    assert len(set(OPTION_PATHS.values())) == len(OPTION_PATHS)
    for path in OPTION_PATHS.values():
        model: typing.Any = StudySpec
        for key in path:
            if key == "*":
                continue
            field = model.model_fields[key]
            [*inner] = [one for one in typing.get_args(field.annotation) if hasattr(one, "model_fields")]
            model = inner[0] if inner else field.annotation


@pytest.mark.parametrize("name", [name for name in OPTION_PATHS if name not in ("model", "fractions")])
def test_the_type_of_a_keyword_is_that_of_the_field(name: str) -> None:
    """A value that the keyword's type allows is one that the field's type allows."""
    model: typing.Any = StudySpec
    annotation: typing.Any = None
    for key in OPTION_PATHS[name]:
        if key == "*":
            continue
        annotation = model.model_fields[key].annotation
        inner = [one for one in (annotation, *typing.get_args(annotation)) if hasattr(one, "model_fields")]
        model = inner[0] if inner else model
    wanted = typing.get_type_hints(StudyOptions)[name]
    samples: dict[object, list[object]] = {str: ["text"], int: [3], float: [0.5], bool: [True], StrPath: ["text"]}
    samples[StrPath | Sequence[StrPath]] = ["text", ("one", "two")]
    values = samples.get(wanted) or list(typing.get_args(wanted))
    for value in values:
        assert TypeAdapter(annotation).validate_python(value) == value
