"""A study's spec knows shapes: what is refused without the registry of methods."""

import pytest
from pydantic import ValidationError

from tuneoff.spec import DataSpec, StudySpec
from tuneoff.spec.study import MOST_SEEDS, ClaimSpec

DATA = DataSpec(source="starter")


@pytest.mark.parametrize(
    "settings",
    [
        {"methods": ()},
        {"methods": ("lora", "lora")},
        {"fractions": (0.5,)},
        {"seeds": 0},
        {"seeds": 10**9},
        {"trials": 65},
        {"halving": True},
        {"until_settled": True, "seeds": 3},
        {"until_settled": True, "looks": (4, 3)},
        {"until_settled": True, "looks": (2, 4)},
        {"until_settled": True, "seeds": 9, "looks": (3, 4, 5, 6, 9)},
        {"looks": (3, 4)},
        {"name": "../elsewhere"},
        {"margin": float("nan")},
        {"unknown": 1},
    ],
)
def test_what_cannot_be_a_study_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        StudySpec.model_validate({"data": DATA, **settings})


def test_a_stored_study_may_have_more_seeds_than_one_that_is_asked_for() -> None:
    stored = StudySpec.model_validate({"data": DATA, "seeds": 5 * MOST_SEEDS})
    assert StudySpec.model_validate_json(stored.model_dump_json()).seeds == 5 * MOST_SEEDS


def test_a_spec_is_the_same_after_a_round_trip() -> None:
    study = StudySpec(data=DATA, trials=2, halving=True, hyperparameters={"lora": {"target_modules": ("q", "v")}})
    assert StudySpec.model_validate_json(study.model_dump_json()) == study
    with pytest.raises(ValidationError):
        study.seeds = 3  # type: ignore[misc]


def test_a_claim_names_as_many_methods_as_its_kind_needs() -> None:
    ClaimSpec(text="x", kind="better", methods=("a", "b"))
    for kind, methods in (("better", ("a",)), ("best_early", ("a", "b")), ("cost_order", ("a",))):
        with pytest.raises(ValidationError):
            ClaimSpec.model_validate({"text": "x", "kind": kind, "methods": methods})


def test_what_a_spec_was_given_later_is_written_only_if_it_is_used() -> None:
    plain = StudySpec(data=DATA).model_dump(mode="json")
    assert "task" not in plain
    assert not {"encoding", "summary_lists", "repeated_documents"} & plain["data"].keys()
    used = StudySpec(data=DataSpec(train_file="a.csv", encoding="cp1252"), task="other")
    again = StudySpec.model_validate(used.model_dump(mode="json"))
    assert again == used
    assert (again.task, again.data.encoding) == ("other", "cp1252")


def test_looks_are_fixed_with_the_study_and_stay_if_it_gets_fewer_seeds() -> None:
    study = StudySpec(data=DATA, until_settled=True)
    assert (study.seeds, study.looks) == (6, (3, 4, 5, 6))
    assert StudySpec(data=DATA, until_settled=True, seeds=9, looks=(3, 6, 9)).looks == (3, 6, 9)
    shorter = study.model_copy(update={"seeds": 3})  # a time limit does so
    again = StudySpec.model_validate_json(shorter.model_dump_json())
    assert again == shorter
    assert (again.possible_seeds, study.possible_seeds) == ((3,), (3, 4, 5, 6))
    plain = StudySpec(data=DATA, seeds=2)
    assert plain.possible_seeds == (1, 2)
    assert not {"until_settled", "looks"} & plain.model_dump().keys()
