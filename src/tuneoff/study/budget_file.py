"""`budget.json`: the plan that made a study fit into its time. It lets an interrupted study go on, and tells the report
what gave way. Needs no torch.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tuneoff.errors import UserError
from tuneoff.results.run_record import BUDGET_FILE, Record
from tuneoff.spec import StudySpec, json_hash
from tuneoff.spec.run import Finite

Equal = Literal["examples", "time"]


@dataclass(frozen=True)
class Speed:
    """Seconds that one method takes on one model: to start, for an optimiser step of examples of mean length, for a
    validation example, for a test example."""

    start: float
    step: float
    check: float
    write: float


@dataclass(frozen=True)
class Plan:
    """A study that fits, or the smallest one. `given_up`: what gave way, in words; `seconds`: what it will take."""

    study: StudySpec
    seconds: float
    given_up: tuple[str, ...]
    fits: bool


Speeds = Mapping[tuple[str, str], Speed]  # (model, method)


class _Settings(BaseModel):
    """What a plan may change in a study."""

    model_config = ConfigDict(frozen=True)

    max_validation_documents: int | None
    max_test_documents: int | None
    trials: int
    fractions: tuple[float, ...]
    max_steps: int | None
    min_steps: int | None
    step_floor: int
    seeds: int
    steps: dict[str, int]


class _Kept(BaseModel):
    """The file. `budget_seconds` is None with `--equal time` alone; files of an earlier version do not tell it."""

    model_config = ConfigDict(frozen=True)

    asked: str
    budget_seconds: Finite | None = None
    equal: Equal = "examples"
    seconds: Finite
    fits: bool
    given_up: tuple[str, ...]
    settings: _Settings


def as_data(plan: Plan, study: StudySpec, seconds: float | None, equal: Equal, speeds: Speeds) -> dict[str, Any]:
    """What the file holds: the plan, what was measured for it, and which request (`study` in `seconds`) it answers."""
    return {
        "asked": _request(study, seconds, equal),
        "budget_seconds": seconds,
        "equal": equal,
        "seconds": plan.seconds,
        "fits": plan.fits,
        "given_up": list(plan.given_up),
        "measured": [
            {"model": model, "method": method, **dataclasses.asdict(speed)} for (model, method), speed in speeds.items()
        ],
        "settings": _settings(plan.study).model_dump(mode="json"),
    }


def _settings(study: StudySpec) -> _Settings:
    return _Settings(
        max_validation_documents=study.data.max_validation_documents,
        max_test_documents=study.data.max_test_documents,
        trials=study.trials,
        fractions=study.fractions,
        max_steps=study.train.max_steps,
        min_steps=study.train.min_steps,
        step_floor=study.step_floor,
        seeds=study.seeds,
        steps=study.steps,
    )


def _request(study: StudySpec, seconds: float | None, equal: Equal) -> str:
    asked = study.without_paths().model_dump(mode="json")
    if not study.halving:  # plans that were made before there was such a setting are kept
        asked.pop("halving")
    return json_hash({"study": asked, "seconds": seconds, "equal": equal})


def earlier(folder: Path, study: StudySpec, seconds: float | None, equal: Equal) -> Plan | None:
    """The plan that a folder keeps of the same request, so that an interrupted study goes on; else None.

    Raises `UserError` for a damaged one.
    """
    found = _read(folder / BUDGET_FILE)
    if found is None or found.asked != _request(study, seconds, equal):
        return None
    kept = found.settings
    data = study.data.model_copy(
        update={name: getattr(kept, name) for name in ("max_validation_documents", "max_test_documents")}
    )
    train = study.train.model_copy(update={name: getattr(kept, name) for name in ("max_steps", "min_steps")})
    own = {name: getattr(kept, name) for name in ("trials", "step_floor", "seeds", "steps", "fractions")}
    planned = study.model_copy(update={**own, "data": data, "train": train})
    return Plan(planned, found.seconds, found.given_up, found.fits)


def _read(path: Path) -> _Kept | None:
    try:
        return _Kept.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:  # ValidationError and JSONDecodeError are ValueErrors
        raise UserError(f"{path}: damaged; delete it to plan anew, or choose another --output") from error


def told(folder: Path, records: Iterable[Record]) -> dict[str, Any] | None:
    """What `summary.json` says of the budget, seconds planned and taken; None without one. Of a file that is damaged or
    plans other settings than those of the study in the folder it holds a `problem` alone, one sentence."""
    try:
        found = _read(folder / BUDGET_FILE)
    except UserError:
        return {"problem": f"{BUDGET_FILE} is damaged, so what gave way for time is not known."}
    if found is None:
        return None
    try:
        study = StudySpec.model_validate_json((folder / "study.json").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError):
        study = None
    if study is None or _settings(study) != found.settings:
        return {"problem": f"{BUDGET_FILE} is of another plan than this study, so it is left out here."}
    return {
        "budget_seconds": found.budget_seconds,
        "equal": found.equal,
        "given_up": list(found.given_up),
        "steps": found.settings.steps,
        "fits": found.fits,
        "planned_seconds": found.seconds,
        "took_seconds": _under_way(records),
    }


def _under_way(records: Iterable[Record]) -> float | None:
    """Seconds in which at least one run was under way: pauses between sessions are not counted, company once."""
    try:
        spans = sorted(
            (_moment(record.started_at), _moment(record.finished_at))
            for record in records
            if record.finished_at is not None
        )
    except ValueError:
        return None
    total, reached = 0.0, -math.inf
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total if spans else None


def _moment(text: str | None) -> float:
    found = datetime.fromisoformat(text or "")
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
