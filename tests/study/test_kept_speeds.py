"""What a probe measured is kept for the same methods, data, machine and versions, for a day if that was quiet."""

from pathlib import Path

import pytest

from support.planned import HASHES, study_of
from tuneoff.profiling.other_programs import OtherPrograms
from tuneoff.results.run_record import Machine
from tuneoff.results.study_state import Speed
from tuneoff.spec import GenerateSpec, TrainSpec
from tuneoff.study import kept_speeds
from tuneoff.study.kept_speeds import keep_speeds, read_kept_speeds, speeds_key
from tuneoff.study.launcher import WHOLE_MACHINE, Layout

SPEEDS = {("starter", "lora"): Speed(start=1, step=2, check=3, write=4, warm_up=5)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path))
    return tmp_path


def test_speeds_are_kept_for_a_day() -> None:
    others = OtherPrograms(0.2, 2)
    keep_speeds("key", SPEEDS, 90.0, others, clock=lambda: 1000.0)
    found = read_kept_speeds("key", 90.0, clock=lambda: 1060.0)
    assert found is not None
    assert (found.speeds, found.age, found.others) == (SPEEDS, 60.0, others)
    assert read_kept_speeds("other", 90.0, clock=lambda: 1060.0) is None
    assert read_kept_speeds("key", 90.0, clock=lambda: 1000.0 + 25 * 3600) is None
    assert read_kept_speeds("key", 90.0, clock=lambda: 900.0) is None  # the clock was set back


@pytest.mark.parametrize(("cores", "valid"), [(0.1, 24 * 3600.0), (1.25, 600.0)])
def test_speeds_beside_busy_programs_are_kept_for_minutes(cores: float, valid: float) -> None:
    keep_speeds("key", SPEEDS, None, OtherPrograms(cores, 2), clock=lambda: 0.0)
    assert read_kept_speeds("key", None, clock=lambda: valid) is not None
    assert read_kept_speeds("key", None, clock=lambda: valid + 1.0) is None


@pytest.mark.parametrize(
    ("kept", "wanted", "enough"),
    [(90.0, 24.0, True), (24.0, 90.0, False), (None, 90.0, True), (90.0, None, False), (None, None, True)],
)
def test_a_longer_probe_is_as_good(kept: float | None, wanted: float | None, enough: bool) -> None:
    keep_speeds("key", SPEEDS, kept)
    assert (read_kept_speeds("key", wanted) is not None) == enough


@pytest.mark.parametrize("answer", [{}, {"speeds": 1, "at": 0, "seconds": 1}, {"speeds": [], "at": "x", "seconds": 1}])
def test_what_another_version_kept_is_not_used(answer: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_speeds, "read_answer", lambda *_: answer)
    assert read_kept_speeds("key", 1.0) is None


def test_the_key_has_everything_that_a_speed_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    study = study_of(methods=("lora",), seeds=3)
    key = speeds_key(study, HASHES, WHOLE_MACHINE, "fp32")
    assert speeds_key(study.model_copy(update={"seeds": 1, "trials": 2}), HASHES, WHOLE_MACHINE, "fp32") == key
    changes: list[dict[str, object]] = [
        {"methods": ("full",)},
        {"hyperparameters": {"lora": {"r": 64}}},
        {"generate": GenerateSpec(max_new_tokens=7)},
        {"train": TrainSpec(batch_size=2)},
        {"train": TrainSpec(processes=2)},
    ]
    others = [speeds_key(study.model_copy(update=change), HASHES, WHOLE_MACHINE, "fp32") for change in changes]
    others.append(speeds_key(study, HASHES, Layout(2, 1), "fp32"))
    others.append(speeds_key(study, HASHES, WHOLE_MACHINE, "bf16"))
    monkeypatch.setattr(kept_speeds, "describe_machine", lambda: Machine(cpu="another"))
    others.append(speeds_key(study, HASHES, WHOLE_MACHINE, "fp32"))
    assert len({key, *others}) == 1 + len(others)
