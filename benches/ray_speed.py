"""Speed-up of one study on Ray nodes of one processor each, against the ideal.

    python benches/ray_speed.py [--workers 1,2,4] [--runs N] [--steps N]

Each number of workers gets a cluster of its own on this machine, and carries out the same study: `--runs` seeds of LoRA
on the starter model, `--steps` steps each. Timed is the whole command. The ideal is the time of one worker divided by
the number of workers, or by the number of processors here if that is smaller. Ends with a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tuneoff.profiling import usable_cores

VARIABLES = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "a token of at least thirty-two characters",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # 127.0.0.1 stays what it is
}
NODE = {"object_store_memory": 80 * 10**6, "node_ip_address": "127.0.0.1", "include_dashboard": False}


def seconds_with(workers: int, runs: int, steps: int) -> float:
    """Wall time of the study on a new cluster."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
    try:
        for _ in range(workers):
            cluster.add_node(num_cpus=1, num_gpus=0, memory=6 * 10**9, **NODE)
        with tempfile.TemporaryDirectory() as folder:
            command = [
                *(sys.executable, "-m", "tuneoff", "compare", "--preset", "starter", "--methods", "lora", "--quiet"),
                *(f"--seeds={runs}", "--trials=0", f"--max-steps={steps}", "--max-test-documents=2"),
                *(f"--engine=ray:cpus=1,memory=4G,address={cluster.address}", f"--output={folder}/study"),
            ]
            began = time.perf_counter()
            subprocess.run(command, check=True)
            seconds = time.perf_counter() - began
            ended = len(list(Path(folder, "study", "runs").glob("lora-s*/record.json")))
            assert ended == runs, f"{ended} of {runs} runs have ended"
            return seconds
    finally:
        cluster.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=6)
    asked = parser.parse_args()
    os.environ.update(VARIABLES)
    found: dict[int, float] = {}
    print("| workers | seconds | speed-up | ideal |\n| --- | --- | --- | --- |")
    for workers in map(int, asked.workers.split(",")):
        found[workers] = seconds_with(workers, asked.runs, asked.steps)
        first = min(found)
        ideal = min(workers, usable_cores()) / min(first, usable_cores())
        print(f"| {workers} | {found[workers]:.0f} | {found[first] / found[workers]:.2f} | {ideal:.2f} |", flush=True)
    print(json.dumps({"seconds": found, "cores": usable_cores()}))


if __name__ == "__main__":
    main()
