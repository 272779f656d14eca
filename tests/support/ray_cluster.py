"""A Ray cluster on this machine, in a process of its own, so that tests may fork: nodes come and go at any time."""

import contextlib
import functools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tuneoff

STORE_BYTES = 80 * 10**6
_TRIES = 5
TOKEN = "a token of at least thirty-two characters, for tests"


@dataclass
class RayCluster:
    """A head node without processors, and nodes that take tasks."""

    address: str
    _process: subprocess.Popen[str]

    def add_node(self, cpus: int = 1) -> str:
        """Its name."""
        return str(self._do("add", cpus))

    def remove_node(self, name: str) -> None:
        """As if its machine had lost its power."""
        self._do("remove", name)

    def main_process(self, name: str) -> int:
        """The process of a node that all its workers are children of."""
        return int(self._do("main process", name))

    def _do(self, *command: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def variables() -> dict[str, str]:
    """The environment of every process of the cluster, and of its drivers."""
    path = [str(Path(__file__).parents[1]), str(Path(tuneoff.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # 127.0.0.1 stays what it is
        "RAY_raylet_start_wait_time_s": "40",
        "RAY_agent_register_timeout_ms": "180000",
        # A node that is lost refuses connections, and is noticed within seconds; one that is slow has time.
        "RAY_health_check_initial_delay_ms": "1000",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "10000",
        "RAY_health_check_failure_threshold": "4",
    }


@contextlib.contextmanager
def ray_cluster(**more: str) -> Iterator[RayCluster]:
    """A cluster without a node that takes tasks. `more`: further variables of its processes."""
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables(), **more},
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield RayCluster(json.loads(process.stdout.readline()), process)
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def _serve() -> None:
    """Carry out commands from stdin until it is closed."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what Ray prints is no answer
    from ray._private.ray_constants import PROCESS_TYPE_RAYLET
    from ray.cluster_utils import Cluster

    common = {
        "object_store_memory": STORE_BYTES,
        "memory": 10**9,
        "node_ip_address": "127.0.0.1",
        "include_dashboard": False,
    }
    cluster = _tried_again(lambda: Cluster(initialize_head=True, head_node_args={**common, **_ports(), "num_cpus": 0}))
    nodes: dict[str, Any] = {}
    try:
        print(json.dumps(cluster.address), file=answers)
        for line in sys.stdin:
            match json.loads(line):
                case "add", cpus:
                    node = _tried_again(functools.partial(_added, cluster, cpus, common))
                    nodes[node.unique_id] = node
                    print(json.dumps(node.unique_id), file=answers)
                case "main process", name:
                    [main] = nodes[name].all_processes[PROCESS_TYPE_RAYLET]
                    print(json.dumps(main.process.pid), file=answers)
                case "remove", name:
                    cluster.remove_node(nodes.pop(name), allow_graceful=False)
                    print(json.dumps(name), file=answers)
    finally:
        cluster.shutdown()


def _tried_again(start: Callable[[], Any]) -> Any:
    """A node, also on a busy machine: Ray gives its agents 15 s to start, and ends without them."""
    for _ in range(_TRIES):
        with contextlib.suppress(Exception):
            return start()
    return start()


def _added(cluster: Any, cpus: int, settings: dict[str, Any]) -> Any:
    return cluster.add_node(num_cpus=cpus, num_gpus=0, **settings, **_ports())


def _ports() -> dict[str, int]:
    """Free ports for the agents of a node: Ray need not wait until they have chosen theirs."""
    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        return dict(zip(names, (each.getsockname()[1] for each in sockets), strict=True))


if __name__ == "__main__":
    _serve()
