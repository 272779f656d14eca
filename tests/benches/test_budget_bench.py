"""Simulated studies end in their time."""

import pytest
from budget import HIGH, LOW, VirtualMachine, main, simulate, study_in

from tuneoff.spec import DataSpec, StudySpec


def test_studies_end_in_their_time() -> None:
    """Short form of the bench: 12 studies, in half of them with other load."""
    found = simulate(1, budgets=(8, 30))
    assert len(found) == 12
    parts = {(one.minutes, one.machine, one.data): one.part for one in found if not one.excused}
    within = [part for part in parts.values() if LOW <= part <= HIGH]
    assert len(within) >= 0.6 * len(parts), parts  # with 60 studies it is about nine tenths
    assert max(parts.values()) <= HIGH + 0.05, parts
    assert min(parts.values()) >= 0.7, parts


@pytest.mark.parametrize("wrong", [0.8, 1.1])
def test_a_probe_that_is_wrong_is_corrected(wrong: float, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = VirtualMachine("AMX", loaded=False, seed=3)
    probed = machine.probe(40.0)
    machine.now = 0.0
    wrongly = {
        key: speed.model_copy(update={"step": wrong * speed.step, "write": wrong * speed.write})
        for key, speed in probed.items()
    }
    monkeypatch.setattr(machine, "probe", lambda _limit: wrongly)
    study = StudySpec(methods=("zero_shot", "lora", "full"), seeds=3, data=DataSpec(source="starter"))
    found = study_in(30, machine, "samsum", study)
    assert found.corrections or wrong > 1
    assert LOW <= found.part <= HIGH


@pytest.mark.slow
def test_the_table(capsys) -> None:
    main(["--seed", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert sum("starter" in line or "samsum" in line for line in lines) == 60
    assert "of 60 studies ended" in lines[-1]
