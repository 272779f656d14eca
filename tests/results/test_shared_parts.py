"""Records are equal with and without shared parts, and of several with equal parts each part is there once."""

from pathlib import Path

import pytest

from tuneoff.results.run_dir import RunDir
from tuneoff.results.run_record import Record
from tuneoff.results.shared_parts import share_parts

RUNS = sorted((Path(__file__).parents[2] / "results" / "coursework" / "runs").iterdir())


def read_alone(folder: Path) -> Record:
    return Record.model_validate_json((folder / "record.json").read_text(encoding="utf-8"))


def test_records_are_what_they_were() -> None:
    for folder in RUNS:
        alone, shared = read_alone(folder), RunDir(folder).read_record()
        assert shared == alone
        assert shared.model_dump_json() == alone.model_dump_json()
        assert shared.spec.train.model_fields_set == alone.spec.train.model_fields_set


def test_what_records_have_in_common_is_there_once() -> None:
    one, other = read_alone(RUNS[0]), read_alone(RUNS[0])
    for record in (one, other):
        share_parts(record)
    assert one.spec.data is other.spec.data
    assert one.provenance is other.provenance
    assert one.resources is not None
    assert other.resources is not None
    assert one.resources.phases["generate"].energy is other.resources.phases["load"].energy


@pytest.mark.parametrize(("value", "other"), [(1, 1.0), (1, True), (0.0, False)])
def test_values_that_only_compare_equal_are_kept(value: object, other: object) -> None:
    def dumped(rate: object) -> str:
        record = read_alone(RUNS[0])
        spec = record.spec.method.model_copy(update={"hyperparameters": {"rate": rate}})
        changed = record.model_copy(update={"spec": record.spec.model_copy(update={"method": spec})})
        share_parts(changed)
        return changed.spec.method.model_dump_json()

    assert dumped(value) != dumped(other)


def test_details_of_other_packages_are_kept() -> None:
    record = read_alone(RUNS[0])
    for place in (1, 2):
        details = type(record.details).model_validate(record.details.model_dump() | {"their_place": place})
        changed = record.model_copy(update={"details": details})
        share_parts(changed)
        assert changed.details.model_extra == {"their_place": place}
