"""What a task of Ray does in tests: a run that takes steps (`stepping_executor`), on any node."""

import os

from support.stepping_executor import SteppingExecutor
from tuneoff.study.ray_task import RayTask, answer_to

SECONDS_VARIABLE = "TUNEOFF_TEST_STEP_SECONDS"


def carry_out(task: str) -> str:
    seconds = float(os.environ.get(SECONDS_VARIABLE, "0"))
    return answer_to(task, _any_node, lambda layout: SteppingExecutor(layout, seconds=seconds))


def _any_node(_task: RayTask) -> None:
    pass
