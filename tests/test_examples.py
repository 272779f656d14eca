"""The files in `examples/cluster` are well-formed and run commands that exist."""

import json
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

CLUSTER = Path(__file__).parent.parent / "examples" / "cluster"


def test_the_script_for_slurm_is_bash(tmp_path: Path) -> None:
    script = CLUSTER / "worker.sbatch"
    directives = [line for line in script.read_text().splitlines() if line.startswith("#SBATCH ")]
    assert all(line.removeprefix("#SBATCH ").startswith("--") for line in directives)
    if (bash := shutil.which("bash")) is None:
        pytest.skip("no bash")
    subprocess.run([bash, "-n", str(script)], check=True)
    # `srun` stands in for the scheduler's: it shows what it would start.
    (tmp_path / "srun").write_text('#!/bin/sh\necho "$@" "$OMP_NUM_THREADS"\n')
    (tmp_path / "srun").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "STUDY": "/shared/my study", "SLURM_CPUS_PER_TASK": "8"}
    done = subprocess.run([bash, str(script)], check=True, capture_output=True, text=True, env=environment)
    # From 22.05 to 23.02 srun does not take the processors from sbatch (CHANGELOG of SLURM).
    assert done.stdout == "--cpus-per-task=8 tuneoff work /shared/my study --memory 24G 8\n"


def test_the_job_for_kubernetes_runs_a_worker() -> None:
    job = yaml.safe_load((CLUSTER / "kubernetes-job.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["command"][:2] == ["tuneoff", "work"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert pod["terminationGracePeriodSeconds"] >= 30  # as long as saving a state may take


def test_the_task_for_skypilot_runs_a_worker() -> None:
    task = yaml.safe_load((CLUSTER / "skypilot.yaml").read_text())
    assert task["setup"] == "pip install 'tuneoff[tune]'"  # without the extra nothing trains
    assert task["run"].endswith("tuneoff work /shared/study")
    assert list(task["volumes"]) == ["/shared"]  # a bucket has no atomic rename
    assert "file_mounts" not in task


def test_the_cluster_of_ray_asks_for_a_token_and_has_no_dashboard() -> None:
    cluster = yaml.safe_load((CLUSTER / "ray-cluster.yaml").read_text())
    assert "pip install 'tuneoff[tune,ray]'" in cluster["setup_commands"]
    starts = [line for key in ("head", "worker") for line in cluster[f"{key}_start_ray_commands"] if " start " in line]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 ray start" in line for line in starts)
    assert "--include-dashboard=false" in starts[0]
    assert cluster["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    if (spec := find_spec("ray")) is not None and spec.origin is not None:  # Ray's own schema, without Ray's imports
        import jsonschema  # type: ignore[import-untyped]

        schema = json.loads((Path(spec.origin).parent / "autoscaler" / "ray-schema.json").read_text())
        jsonschema.validate(cluster, schema)
