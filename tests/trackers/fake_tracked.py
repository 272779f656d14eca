"""A run as a tracker sees it."""

from tuneoff.results.events import Event, Finished, Note, PhaseStarted, Sampled, StepDone, Validated
from tuneoff.results.run_record import Artefact, Curve, PhaseResources, Prediction, Reading, Record, Resources, Status
from tuneoff.spec import DataSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec

LOSSES = [3.5, 3.0, 2.75]


def spec() -> RunSpec:
    return RunSpec(
        model=ModelSpec(),
        prompt=PromptSpec(),
        data=DataSpec(source="starter"),
        method=MethodSpec(name="lora", hyperparameters={"learning_rate": 1e-3}),
    )


EVENTS: list[Event] = [
    PhaseStarted(phase="train", seconds=0.0),
    *(
        StepDone(
            step=number, steps=3, epoch=number / 3, loss=loss, learning_rate=1e-3, grad_norm=1.5, tokens=64,
            seconds=float(number),
        )
        for number, loss in enumerate(LOSSES, 1)
    ),
    Validated(step=3, epoch=1.0, loss=2.625, best=True, seconds=4.0),
    Sampled(seconds=4.5, phase="train", memory_bytes=123_456_789, cpu=1.75),
    Note(text="a note"),
    Finished(status="finished"),
]  # fmt: skip

PREDICTIONS = [
    Prediction(id="a", text="first \U0001f600 text", scores={"rouge1": 0.5}, stopped=True),
    Prediction(id="b", text="second", scores={"rouge1": None}, stopped=False),
]


def record(name: str, status: Status) -> Record:
    nothing = Reading(value=None, unit="B", reason="no accelerator in use")
    train = PhaseResources(
        wall_seconds=12.5,
        cpu_seconds=20.0,
        tokens=192,
        peak_memory_bytes=1_000_000,
        accelerator_peak_bytes=nothing,
        energy=Reading(value=None, unit="J", reason="no counter"),
    )
    return Record(
        run_id="0123456789abcdef",
        name=name,
        status=status,
        spec=spec(),
        started_at="2026-01-01T00:00:00+00:00",
        curve=Curve(best_step=3, best_epoch=1.0, best_validation_loss=2.625),
        scores={"rouge1": 0.3125, "rouge2": None},
        signature="package:1",
        resources=Resources(phases={"train": train}, peak_memory_bytes=1_000_000, threads=2),
        trainable_parameters=10,
        total_parameters=100,
        artefact=Artefact(format="peft", bytes=4321),
        provenance={"machine": {"cpu": "provenance-canary"}},
    )
