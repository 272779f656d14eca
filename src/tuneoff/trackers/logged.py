"""What every tracker logs of a run, by the same names."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tuneoff.results.events import Event, Sampled, StepDone, Validated
from tuneoff.results.run_record import Prediction, Record, Resources

PROJECT = "tuneoff"


@dataclass(frozen=True)
class Point:
    """A point of several curves. `axis` names what `at` counts: `train/step` (steps) or `seconds`."""

    axis: str
    at: float
    values: dict[str, float]


def point_of(event: Event) -> Point | None:
    """The point of a step, a validation or a resource sample; None for events that have no curve."""
    if isinstance(event, StepDone):
        return Point(
            "train/step",
            event.step,
            {
                "train/epoch": event.epoch,
                "train/loss": event.loss,
                "train/learning_rate": event.learning_rate,
                "train/grad_norm": event.grad_norm,
                "train/tokens": event.tokens,
            },
        )
    if isinstance(event, Validated):
        return Point("train/step", event.step, {"validation/loss": event.loss, "validation/epoch": event.epoch})
    if isinstance(event, Sampled):
        values = {"resources/memory_bytes": float(event.memory_bytes), "resources/cpu_cores": event.cpu}
        if event.accelerator is not None:
            values["resources/accelerator_use"] = event.accelerator
        return Point("seconds", event.seconds, values)
    return None


def summary_of(record: Record) -> dict[str, str | float]:
    """Status, scores and costs, without what was not measured."""
    values: dict[str, str | float | None] = {
        "status": record.status,
        "rouge_signature": record.signature,
        "best/step": record.curve.best_step,
        "best/epoch": record.curve.best_epoch,
        "best/validation_loss": record.curve.best_validation_loss,
        "parameters/trainable": record.trainable_parameters,
        "parameters/total": record.total_parameters,
        "artefact/bytes": record.artefact.bytes if record.artefact is not None else None,
        **{f"scores/{metric}": value for metric, value in record.scores.items()},
        **(dict(_costs_of(record.resources)) if record.resources is not None else {}),
    }
    return {key: value for key, value in values.items() if value is not None}


def _costs_of(resources: Resources) -> Iterator[tuple[str, float | None]]:
    yield "cost/peak_memory_bytes", resources.peak_memory_bytes
    yield "cost/threads", resources.threads
    for name, phase in resources.phases.items():
        yield f"cost/{name}/wall_seconds", phase.wall_seconds
        yield f"cost/{name}/cpu_seconds", phase.cpu_seconds
        yield f"cost/{name}/tokens", phase.tokens
        yield f"cost/{name}/peak_memory_bytes", phase.peak_memory_bytes
        yield f"cost/{name}/accelerator_peak_bytes", phase.accelerator_peak_bytes.value
        yield f"cost/{name}/energy_joules", phase.energy.value


def table_of(predictions: Sequence[Prediction]) -> tuple[list[str], list[list[str | float | bool | None]]]:
    """The generated texts as a table: names of the columns, and rows."""
    metrics = sorted({metric for row in predictions for metric in row.scores})
    rows = [[row.id, row.text, row.stopped, *(row.scores.get(metric) for metric in metrics)] for row in predictions]
    return ["id", "text", "stopped", *metrics], rows
