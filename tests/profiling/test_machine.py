"""The description of the machine and its sensors."""

import json
from pathlib import Path

import pytest

from support.fake_devices import NoDriver
from support.memory import MB
from tuneoff.profiling import describe_machine, read_sensors
from tuneoff.profiling.machine import cpu_model, may_have_accelerator
from tuneoff.profiling.nvidia import NvidiaDevices


def test_machine_is_plain_json_without_the_name_of_the_host() -> None:
    described = describe_machine().model_dump(mode="json")
    assert json.loads(json.dumps(described)) == described
    assert described["memory_bytes"] > 100 * MB
    assert described["usable_cores"] >= 1
    assert described["cpu"]
    assert set(described) == {
        "cpu", "physical_cores", "logical_cores", "usable_cores", "memory_bytes", "architecture", "os", "python",
        "accelerators",
    }  # fmt: skip


def test_cpu_model_reads_cpuinfo_and_falls_back(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz: new\n")
    assert cpu_model(tmp_path / "cpuinfo") == "Some CPU @ 3 GHz: new"
    assert cpu_model(tmp_path / "none")


def test_every_sensor_has_a_value_with_a_source_or_a_reason(tmp_path: Path) -> None:
    found = read_sensors(powercap=tmp_path, nvidia=NvidiaDevices(NoDriver()))
    assert [sensor.name for sensor in found] == [
        "memory", "memory peak", "accelerator use", "processor energy", "accelerator energy",
    ]  # fmt: skip
    for sensor in found:
        assert (sensor.reading.value is None) == (sensor.reading.reason is not None)
        assert (sensor.reading.value is None) == (sensor.reading.source is None)


@pytest.mark.parametrize(("file", "possible"), [("nvidia0", True), ("kfd", True), ("nvme0", False), (None, False)])
def test_an_accelerator_is_ruled_out_only_by_the_files_of_devices(
    file: str | None, possible: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if file is not None:
        (tmp_path / file).write_text("")
    monkeypatch.setattr("sys.platform", "linux")
    assert may_have_accelerator(tmp_path) == possible
    monkeypatch.setattr("sys.platform", "darwin")
    assert may_have_accelerator(tmp_path)
