"""Limits of control groups, with files as Linux has them."""

from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tuneoff import memory_limits
from tuneoff.memory_limits import available_memory, total_memory

GB = 10**9
Groups = Callable[[str, dict[str, object]], None]


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Groups:
    """Writes which groups this process is in, and their files."""
    monkeypatch.setattr(memory_limits, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(memory_limits, "OWN_GROUPS", tmp_path / "own")

    def write(own: str, files: dict[str, object]) -> None:
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")

    return write


def test_the_smallest_limit_of_a_group_and_those_around_it_counts(groups: Groups) -> None:
    groups(
        "0::/job/step\n",
        {
            "job/step/memory.max": "max",
            "job/memory.max": GB // 2,
            "job/memory.current": GB // 4,
            "job/memory.stat": f"anon 1\ninactive_file {GB // 8}",
        },
    )
    assert total_memory() == GB // 2
    assert available_memory() == GB // 2 - GB // 8


def test_the_first_version_of_control_groups(groups: Groups) -> None:
    groups(
        "4:cpu,cpuacct:/x\n3:memory:/slurm/job_1\n",
        {
            "memory/slurm/job_1/memory.limit_in_bytes": GB // 2,
            "memory/slurm/job_1/memory.usage_in_bytes": GB,  # just beyond it
            "memory/memory.limit_in_bytes": 9223372036854771712,
        },
    )
    assert (total_memory(), available_memory()) == (GB // 2, 0)


def test_a_container_sees_its_own_group_as_the_root(groups: Groups) -> None:
    groups("0::/docker/of/the/host\n", {"memory.max": GB // 2, "memory.current": 0})
    assert total_memory() == GB // 2


@pytest.mark.parametrize("own", ["", "nonsense", "0::/gone\n", "0::/../../etc\n"])
def test_without_limits_it_is_that_of_the_machine(own: str, groups: Groups) -> None:
    groups(own, {})
    assert total_memory() == psutil.virtual_memory().total
