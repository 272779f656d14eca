"""What a task of Ray does in tests: a run that takes steps (`stepping_executor`), on any node.

And a cluster without Ray, whose tasks are calls.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from support.stepping_executor import SteppingExecutor
from tuneoff.results.run_claims import Claims
from tuneoff.study.ray_task import RayTask, answer_to

SECONDS_VARIABLE = "TUNEOFF_TEST_STEP_SECONDS"


def carry_out(task: str) -> str:
    seconds = float(os.environ.get(SECONDS_VARIABLE, "0"))
    return answer_to(task, _any_node, lambda layout: SteppingExecutor(layout, seconds=seconds))


def _any_node(_task: RayTask) -> None:
    pass


class _Error(Exception):
    pass


ERRORS = {
    name: type(name, (_Error,), {})
    for name in ("WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "ObjectLostError", "RayTaskError")
}


class FakeRay:
    """A cluster whose tasks end in the order in which they were submitted. `faults`: what each attempt raises.

    A fault happens after the task has claimed its run, as when its process is killed.
    """

    exceptions = SimpleNamespace(**ERRORS)

    def __init__(
        self, *nodes: dict[str, float], faults: Sequence[str | None] = (), task: Callable[[str], str] | None = None
    ) -> None:
        self._nodes = nodes or ({"CPU": 1.0, "memory": 1e9},)
        self._faults, self._task = list(faults), task
        self.options: list[dict[str, Any]] = []
        self.tasks: list[RayTask] = []
        self.cancelled: list[int] = []
        self.most_at_once = 0
        self._open: dict[int, str] = {}

    @contextlib.contextmanager
    def connected(self, _address: str | None) -> Iterator[Any]:
        yield self

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": node} for node in self._nodes] + [{"Alive": False, "Resources": {}}]

    def remote(self, _function: Callable[[str], str]) -> Any:
        return SimpleNamespace(options=self._with)

    def _with(self, **options: Any) -> Any:
        self.options.append(options)
        return SimpleNamespace(remote=self._submit)

    def _submit(self, text: str) -> int:
        reference = len(self.tasks)
        self.tasks.append(RayTask.model_validate_json(text))
        self._open[reference] = text
        self.most_at_once = max(self.most_at_once, len(self._open))
        return reference

    def wait(self, references: Sequence[int], **_options: Any) -> tuple[list[int], list[int]]:
        return list(references[:1]), list(references[1:])

    def get(self, reference: int) -> str:
        text = self._open.pop(reference)
        fault = self._faults.pop(0) if self._faults else None
        if fault is not None:
            task = self.tasks[reference]
            assert Claims(Path(task.study), f"{task.worker} node:1").take(task.job.dir.name, "now") is not None
            raise ERRORS[fault](fault)
        return (self._task or carry_out)(text)

    def cancel(self, reference: int, **_options: Any) -> None:
        self.cancelled.append(reference)
