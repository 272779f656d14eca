"""What `doctor` finds on this machine."""

import json
from typing import Any

import pytest

from tuneoff.cli import main
from tuneoff.cli.doctor import as_text

FOUND: dict[str, Any] = {
    "versions": {"torch": "2.9", "wandb": None},
    "machine": {"cpu": "a processor", "usable_cores": 3, "memory_bytes": 8 * 2**30, "os": "Linux"},
    "device": "cpu",
    "threads": 3,
    "precision": {"chosen": "float32", "gemm_flops_per_second": {"float32": 4e10}},
    "kernels": False,
    "layers": {},
    "sensors": [
        {"name": "memory", "reading": {"value": 2 * 2**20, "unit": "B", "source": "proc", "reason": None}},
        {"name": "energy", "reading": {"value": None, "unit": "J", "source": None, "reason": "no counter"}},
    ],
    "starter": {"model": {"present": True, "install": "x"}, "data": {"present": False, "install": "pip install x"}},
    "cache_folder": "cache",
}


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["precision"]["chosen"] in ("float32", "bfloat16")
    assert found["threads"] >= 1
    for sensor in found["sensors"]:
        assert (sensor["reading"]["value"] is None) == bool(sensor["reading"]["reason"])
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("device", "precision", "sensor", "starter", "version"))


def test_what_is_missing_is_named_with_the_way_to_install_it() -> None:
    text = as_text(FOUND)
    assert "wandb not installed (pip install wandb)" in text
    assert "data: not installed (fetched from the hub, or: pip install x)" in text
    assert "needs a C compiler" in text
    assert "model: present" in text


def test_a_sensor_has_a_value_with_its_source_or_a_reason() -> None:
    text = as_text(FOUND)
    assert "memory: 2 MiB (proc)" in text
    assert "energy: unavailable, no counter" in text


def test_kernels_are_reported_only_for_a_cpu() -> None:
    assert "kernels" not in as_text({**FOUND, "device": "cuda"})


def test_units_of_layers_are_named() -> None:
    layers = {"float32": None, "bfloat16": "matrix units"}
    assert "whole layers in bfloat16 by matrix units" in as_text({**FOUND, "kernels": True, "layers": layers})
    assert "matrix units" not in as_text(FOUND)
