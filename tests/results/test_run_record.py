"""Records are typed to the leaf; those of published studies, and what other packages add, survive unchanged."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from support.planned import HASHES, record_of, resources_of, study_of
from tuneoff.results.events import Event
from tuneoff.results.run_dir import RunDir
from tuneoff.results.run_record import MOST_FILES, Artefact, Prediction, Provenance, Reading, Record, RunDetails
from tuneoff.results.study_state import BudgetFile, DataFile, PlanFile, SearchFile
from tuneoff.spec import RunSpec, StudySpec
from tuneoff.study import planner

RESULTS = Path(__file__).parents[2] / "results"
FIXTURE = Path(__file__).parents[1] / "fixtures"


def a_record() -> Record:
    [run, *_] = planner.plan(study_of(methods=("lora",)), HASHES, {}).runs
    return record_of(run)


@pytest.mark.parametrize("folder", [RESULTS, FIXTURE], ids=lambda path: path.name)
def test_stored_records_are_read_and_written_unchanged(folder: Path) -> None:
    paths = sorted(folder.rglob("record.json"))
    assert paths
    for path in paths:
        before = json.loads(path.read_text(encoding="utf-8"))
        now = RunDir(path.parent).read_record().model_dump(mode="json")
        for key in ("details", "provenance"):
            assert now[key] == before[key], path
        for key, value in before.items():
            if key not in ("details", "provenance", "spec"):
                assert contains(now[key], value), (path, key)


def contains(now: Any, before: Any) -> bool:
    """Whether `now` has every value of `before`; it may have fields that are newer."""
    if isinstance(before, dict):
        return isinstance(now, dict) and all(key in now and contains(now[key], before[key]) for key in before)
    if isinstance(before, list):
        return len(now) == len(before) and all(contains(*pair) for pair in zip(now, before, strict=True))
    return bool(now == before)


def test_unknown_details_are_kept(tmp_path: Path) -> None:
    """A method of another package reports what it wants."""
    own = {"my_package_rank": {"q_proj": [1, 2.5, None]}, "device": "cpu"}
    record = a_record().model_copy(update={"details": RunDetails.model_validate(own)})
    folder = RunDir(tmp_path)
    folder.write_record(record)
    again = folder.read_record()
    assert again == record
    assert json.loads((tmp_path / "record.json").read_text())["details"] == own
    assert again.details.model_extra == {"my_package_rank": {"q_proj": [1, 2.5, None]}}


def test_details_have_types() -> None:
    with pytest.raises(ValidationError):
        RunDetails.model_validate({"train_examples": "many"})
    with pytest.raises(ValidationError):
        RunDetails.model_validate({"mine": object()})


def test_fields_that_are_none_are_not_written() -> None:
    assert RunDetails(device="cpu").model_dump() == {"device": "cpu"}
    assert Provenance().model_dump() == {}


def test_unknown_keys_of_a_record_itself_are_damage() -> None:
    with pytest.raises(ValidationError):
        Record.model_validate({**a_record().model_dump(), "surprise": 1})


def test_the_memory_that_is_exhausted_first_is_the_accelerators() -> None:
    resources = resources_of(train=1.0, evaluate=2.5)
    assert (resources.limiting_peak_bytes, resources.total_seconds) == (1.0, 3.5)
    phases = {
        name: phase.model_copy(update={"accelerator_peak_bytes": Reading(value=value, unit="B")})
        for (name, phase), value in zip(resources.phases.items(), (7.0, None), strict=True)
    }
    assert resources.model_copy(update={"phases": phases}).limiting_peak_bytes == 7.0


@pytest.mark.parametrize("name", ["/etc/passwd", "../record.json", "a/../../b", "", ".", "C:\\x", "a\\..\\b", "a\0"])
def test_a_record_names_no_files_outside_its_artefact(name: str) -> None:
    with pytest.raises(ValidationError, match="not a path inside"):
        Artefact(format="prompt", bytes=1, files=(name,))
    assert Artefact(format="prompt", bytes=1, files=("a/b.json",)).files == ("a/b.json",)


@pytest.mark.parametrize("number", ["-1.0", "1e999", "NaN"])
@pytest.mark.parametrize("key", ["wall_seconds", "cpu_seconds"])
def test_a_time_that_no_clock_measures_is_refused(key: str, number: str) -> None:
    record = a_record().model_copy(update={"resources": resources_of(train=1.0)})
    plain = json.loads(record.model_dump_json())
    next(iter(plain["resources"]["phases"].values()))[key] = "HERE"
    with pytest.raises(ValidationError, match=key):
        Record.model_validate_json(json.dumps(plain).replace('"HERE"', number))


def test_sizes_are_not_negative() -> None:
    for change in ({"artefact": {"format": "peft", "bytes": -1}}, {"trainable_parameters": -1}):
        with pytest.raises(ValidationError, match="greater than or equal to 0"):
            Record.model_validate(a_record().model_dump() | change)
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Reading(value=-5.0, unit="J")


def numbers_without_end(model: type[BaseModel]) -> set[str]:
    """The fields with a number that may be as large as it likes."""
    schema = model.model_json_schema()
    parts, found = {model.__name__: schema, **schema.pop("$defs", {})}, set()

    def look(part: dict[str, Any], name: str) -> None:
        if part.get("type") in ("integer", "number") and not ("maximum" in part and "minimum" in part):
            found.add(name)
        for inner in (*part.get("anyOf", ()), *(part[key] for key in ("items", "additionalProperties") if key in part)):
            if isinstance(inner, dict):
                look(inner, name)

    for kind, part in parts.items():
        for key, field in part.get("properties", {}).items():
            look(field, f"{kind}.{key}")
    return found


def test_every_number_of_a_stored_file_has_bounds() -> None:
    of_specs = {name for model in (StudySpec, RunSpec) for name in numbers_without_end(model)}
    values = {f"{kind}.{key}" for kind in ("TrialResult", "SecondLookResult") for key in ("value",)}
    values |= {"SearchCell.chosen", "SearchCell.within_noise"}  # of any hyper-parameter
    losses = {"StepDone.loss", "StepDone.grad_norm", "Validated.loss"}  # a curve does not get those beyond its bounds
    models = (Record, Prediction, PlanFile, DataFile, BudgetFile, SearchFile, *get_args(Event))
    assert set().union(*map(numbers_without_end, models)) - of_specs == values | losses


def test_an_artefact_lists_no_thousands_of_files() -> None:
    names = tuple(map(str, range(MOST_FILES)))
    assert Artefact(format="peft", bytes=0, files=names).files == names
    with pytest.raises(ValidationError, match="at most 2000 items"):
        Artefact(format="peft", bytes=0, files=(*names, "more"))
