"""Keeps what a probe measured, so that the study after a dry run does not measure it again.

In the cache, because a dry run writes nothing into the study's folder. Valid for a day, on the same machine, with the
same versions, for the same methods on the same data. What was measured beside busy programs is valid for ten minutes,
because they may end.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from tuneoff import models
from tuneoff.cache import cache_key, read_answer, write_answer
from tuneoff.engine.precision import NumberFormat
from tuneoff.profiling import describe_machine
from tuneoff.profiling.other_programs import OtherPrograms
from tuneoff.results.run_record import NUMERICS_VERSION
from tuneoff.results.study_state import MeasuredSpeed
from tuneoff.spec import StudySpec
from tuneoff.study import planner
from tuneoff.study.duration import Speeds
from tuneoff.study.launcher import Layout
from tuneoff.study.planner import ContentHashes

KIND = "speeds"
VALID_SECONDS, VALID_SECONDS_BUSY = 24 * 3600.0, 600.0
_SPEEDS = TypeAdapter(tuple[MeasuredSpeed, ...])
_OTHERS = TypeAdapter(OtherPrograms | None)


@dataclass(frozen=True)
class KeptSpeeds:
    """Speeds of methods, and when they were measured."""

    speeds: Speeds
    age: float | None
    """Seconds since then; None if they were measured just now."""
    others: OtherPrograms | None = None
    """What other programs used meanwhile; None if it is not known."""


def speeds_key(study: StudySpec, hashes: ContentHashes, layout: Layout, number_format: NumberFormat | None) -> str:
    """The key of all that the speeds of a study depend on, except for the load of the machine."""
    methods = {name: method.hyperparameters for name, method in planner.build_methods(study).items()}
    return cache_key(
        data=hashes.data,
        models=dict(hashes.models),
        precisions=[model.precision for model in study.models],
        methods=methods,
        prompt=study.prompt.model_dump(mode="json"),
        batch=[study.train.batch_size, study.train.micro_batch_tokens, study.train.processes],
        generate=study.generate.model_dump(mode="json"),
        layout=[layout.processes, layout.threads],
        number_format=number_format,
        machine=describe_machine().model_dump(mode="json"),
        versions={"python": platform.python_version(), **models.versions(), "numerics": NUMERICS_VERSION},
    )


def read_kept_speeds(key: str, seconds: float | None, clock: Callable[[], float] = time.time) -> KeptSpeeds | None:
    """Speeds that are still valid, of a probe that had at least as many `seconds` (None: no limit)."""
    answer = read_answer(KIND, key)
    if answer is None:
        return None
    try:
        found = _SPEEDS.validate_python(answer["speeds"])
        age, limit = clock() - float(answer["at"]), answer["seconds"]
        others = _OTHERS.validate_python(answer.get("others"))
        enough = limit is None or (seconds is not None and float(limit) >= seconds)
    except (KeyError, TypeError, ValueError, ValidationError):  # of another version
        return None
    valid = VALID_SECONDS_BUSY if others is not None and others.are_busy else VALID_SECONDS
    if not enough or not 0 <= age <= valid:
        return None
    return KeptSpeeds({(each.model, each.method): each.speed() for each in found}, age, others)


def keep_speeds(
    key: str,
    speeds: Speeds,
    seconds: float | None,
    others: OtherPrograms | None = None,
    clock: Callable[[], float] = time.time,
) -> None:
    """Keep what a probe measured that was given `seconds` (None: no limit) while there were `others`."""
    rows = [MeasuredSpeed.of(model, method, speed).model_dump() for (model, method), speed in speeds.items()]
    answer = {"speeds": rows, "at": clock(), "seconds": seconds, "others": _OTHERS.dump_python(others)}
    write_answer(KIND, key, answer)
