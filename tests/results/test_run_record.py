"""Records are typed to the leaf; those of published studies, and what other packages add, survive unchanged."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from support.planned import HASHES, record_of, resources_of, study_of
from tuneoff.results.run_dir import RunDir
from tuneoff.results.run_record import Artefact, Provenance, Reading, Record, RunDetails
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
