"""A study folder as `Scores`, one for each base model. Reads records and scores only: no texts, no weights."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tuneoff.errors import UserError
from tuneoff.methods import METHODS
from tuneoff.results.run_record import (
    PhaseResources,
    Prediction,
    Record,
    read_documents,
    read_predictions,
    read_record,
    read_rows,
    run_folders,
)
from tuneoff.spec import ScoreSpec
from tuneoff.spec.study import MARGIN, ClaimSpec
from tuneoff.verdict.confounds import find_confounds
from tuneoff.verdict.costs import Place, as_alone, in_company, place, timing_of
from tuneoff.verdict.scores import AXES, Cost, Scores
from tuneoff.verdict.sentences import listed

OUTSIDE = "outside"


class Planned(BaseModel):
    """What a study wants to have run, out of its `study.json`; without one nothing is known to be missing."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    methods: tuple[str, ...] = ()
    seeds: int = 0
    claims: tuple[ClaimSpec, ...] = ()
    predictions: dict[str, str] = {}
    margin: float = Field(MARGIN, ge=0, allow_inf_nan=False)
    score: ScoreSpec = ScoreSpec()


def read_planned(study: Path) -> Planned:
    """Raises `UserError` for a damaged `study.json`."""
    path = study / "study.json"
    try:
        return Planned.model_validate_json(path.read_text(encoding="utf-8")) if path.exists() else Planned()
    except (ValidationError, UnicodeDecodeError) as error:
        raise _damaged(path) from error


def load_scores(study: Path, metric: str = "rouge1", *, fraction: float = 1.0) -> list[Scores]:
    """The scores of a study folder, one `Scores` for each base model in the order of their names.

    Only final runs on the share `fraction` of the data take part. A method that needs no run of its own on a smaller
    share (its seed changes nothing and its setting is the same) takes part with its run on all the data. One that the
    study plans and that has no such run takes part without scores, so that a verdict on a study under way says what it
    does not know. Runs that are not finished are left out and named in `notes`, which also tell where runs were not
    computed alike. Outputs of outside systems take part as methods without seeds or costs; the sentence baselines do
    not, for nobody chooses among them. Raises `UserError` when the folder holds no such run, a file is damaged, or a
    method ran twice with one seed.
    """
    everything = _records(study)
    timing = timing_of(record for record, _ in everything)
    records = _on(fraction, [entry for entry in everything if entry[0].spec.role == "final"])
    if not records:
        raise UserError(f"{study}: no run there to judge; name the folder that `tuneoff compare` wrote")
    # Of all shares, so that a model goes by the same name at each of them while others are still to come.
    models = sorted({record.spec.model.name for record, _ in everything if record.spec.role == "final"})
    groups, no_groups = _groups(study)
    outside = _outside(study, metric)
    planned = read_planned(study)
    blocks = []
    for model in models:
        own = [(record, folder) for record, folder in records if record.spec.model.name == model]
        if not own:
            continue
        block = _block(own, metric, outside, timing, planned, model if len(models) > 1 else None)
        blocks.append(
            Scores(
                methods=block.methods,
                scores=block.scores,
                groups=groups,
                costs=block.costs,
                deterministic=block.deterministic,
                titles=block.titles,
                block=block.block,
                metric=metric,
                notes=(*block.notes, *no_groups),
            )
        )
    return blocks


def _on(fraction: float, records: list[tuple[Record, Path]]) -> list[tuple[Record, Path]]:
    def place(record: Record) -> tuple[str, str]:
        return record.spec.model.name, record.spec.method.name

    found = [entry for entry in records if entry[0].spec.fraction == fraction]
    there = {place(record) for record, _ in found}
    stand_in = [
        (record, folder)
        for record, folder in records
        if record.spec.fraction == 1
        and place(record) not in there
        and record.spec.method.name in METHODS
        and not METHODS[record.spec.method.name].seeded
    ]
    return [*found, *stand_in]


def _records(study: Path) -> list[tuple[Record, Path]]:
    return [(read_record(folder), folder) for folder in run_folders(study)]


def _block(
    records: list[tuple[Record, Path]],
    metric: str,
    outside: Mapping[str, Mapping[str, float | None]],
    timing: Mapping[Place, Record],
    planned: Planned,
    block: str | None,
) -> Scores:
    scores: dict[tuple[str, int], Mapping[str, float | None]] = {}
    kept: dict[str, list[Record]] = {method: [] for method in planned.methods}
    notes: list[str] = []
    for record, folder in records:
        method, seed = record.spec.method.name, record.spec.seed
        kept.setdefault(method, [])
        if record.status != "finished":
            notes.append(f"Run {record.name} is left out: {record.status}.")
            continue
        if (method, seed) in scores:
            raise UserError(f"{folder}: {method} ran twice with seed {seed}; move one of the two run folders away")
        scores[method, seed] = _metric(read_predictions(folder), metric)
        kept[method].append(record)
    for name, row in outside.items():
        scores[name, 0] = row
    order = {name: place for place, name in enumerate(METHODS)}
    methods = sorted(kept, key=lambda name: (order.get(name, len(order)), name))
    fixed = {name for name in kept if _writes_the_same(name, [record for record, _ in records])}
    return Scores(
        methods=(*methods, *(name for name in outside if name not in kept)),
        scores=scores,
        costs={
            name: load_costs([as_alone(record, timing.get(place(record))) for record in found])
            for name, found in kept.items()
            if found
        },
        deterministic=frozenset(fixed | set(outside)),
        titles={name: METHODS[name].title for name in methods if name in METHODS} | {name: name for name in outside},
        block=block,
        notes=(
            *notes,
            *(confound.sentence for confound in find_confounds(record for record, _ in records)),
            *_shared(kept, timing),
            *_under_way(kept, planned),
        ),
    )


def _under_way(kept: Mapping[str, list[Record]], planned: Planned) -> Iterable[str]:
    """Methods of which some planned runs are finished and others are not; those without any are left out anyway."""
    parts = []
    for name, found in kept.items():
        known = METHODS.get(name)
        wanted = planned.seeds if known is None or known.seeded else 1
        if name in planned.methods and 0 < len(found) < wanted:
            parts.append(f"{known.title if known else name} {len(found)} of {wanted}")
    if parts:
        yield f"Runs that are planned are missing; finished so far: {listed(parts)}."


def _shared(kept: Mapping[str, list[Record]], timing: Mapping[Place, Record]) -> Iterable[str]:
    """Methods whose times are no costs: their runs had company, and no run was timed alone."""
    company = {
        METHODS[name].title if name in METHODS else name: record.resources.processes
        for name, records in kept.items()
        for record in records
        if record.resources and in_company(record, timing)
    }
    if company:
        most = max(company.values())
        yield (
            f"Time and energy of {', '.join(company)} were measured while up to {most} runs shared the machine: "
            "they are no costs of a run alone."
        )


def _writes_the_same(method: str, records: Iterable[Record]) -> bool:
    """Whether the seed changes nothing and the method was run once: a study repeats whatever depends on the seed."""
    known = METHODS.get(method)
    runs = sum(record.spec.method.name == method for record in records)
    return known is not None and not known.seeded and runs == 1


def _metric(rows: Iterable[Prediction], metric: str) -> dict[str, float | None]:
    return {row.id: row.scores.get(metric) for row in rows}


def _damaged(path: Path) -> UserError:
    return UserError(f"{path}: damaged or from another version of tuneoff; restore it or run the study again")


def outside_files(study: Path) -> list[Path]:
    """The outputs of outside systems that the study compares; a folder may hold others, of an earlier choice."""
    paths = sorted((study / OUTSIDE).glob("*.jsonl"))
    if not (study / "study.json").exists():
        return paths
    named = read_planned(study).predictions
    return [path for path in paths if path.stem in named]


def _outside(study: Path, metric: str) -> dict[str, dict[str, float | None]]:
    return {path.stem: _metric(read_rows(path, Prediction), metric) for path in outside_files(study)}


def _groups(study: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    documents = read_documents(study)
    if documents:
        return {document.id: document.group for document in documents}, ()
    note = (
        "The study folder holds no documents, so each test example counts as a document of its own; where several "
        "share a document the intervals are too narrow."
    )
    return {}, (note,)


def load_costs(records: list[Record]) -> dict[str, Cost]:
    """Cost of finished runs on each axis, mean over them."""
    readers = {
        "train_seconds": _train_seconds,
        "peak_memory_bytes": _peak_memory,
        "artefact_bytes": _artefact,
        "generate_seconds": _generate_seconds,
        "energy_joules": _energy,
        "labelled_examples": _labelled_examples,
    }
    return {axis.name: _mean([readers[axis.name](record) for record in records]) for axis in AXES}


def _mean(costs: list[Cost]) -> Cost:
    values = [cost.value for cost in costs if cost.value is not None]
    if len(values) < len(costs):
        reasons = dict.fromkeys(cost.reason for cost in costs if cost.value is None and cost.reason)
        return Cost(None, "; ".join(reasons) or "not measured")
    return Cost(sum(values) / len(values))


def _phases(record: Record) -> dict[str, PhaseResources]:
    return record.resources.phases if record.resources else {}


def _train_seconds(record: Record) -> Cost:
    if record.trainable_parameters == 0:
        return Cost(0.0)
    phase = _phases(record).get("train")
    return Cost(phase.wall_seconds) if phase else Cost(None, "the record holds no training phase")


def _generate_seconds(record: Record) -> Cost:
    phase = _phases(record).get("generate")
    return Cost(phase.wall_seconds) if phase else Cost(None, "the record holds no generation phase")


def _peak_memory(record: Record) -> Cost:
    if record.resources is None:
        return Cost(None, "the record holds no resources")
    return Cost(record.resources.scarce_peak_bytes)


def _artefact(record: Record) -> Cost:
    return Cost(float(record.artefact.bytes)) if record.artefact else Cost(None, "the record holds no artefact")


def _energy(record: Record) -> Cost:
    """Training and generation together."""
    readings = [phase.energy for name, phase in _phases(record).items() if name in ("train", "generate")]
    if not readings:
        return Cost(None, "the record holds no resources")
    total = 0.0
    for reading in readings:
        if reading.value is None:
            return Cost(None, reading.reason or "not measured")
        total += reading.value
    return Cost(total)


def _labelled_examples(record: Record) -> Cost:
    """Training examples that the run has read; those of validation, by which settings are chosen, are the same for all
    methods."""
    if record.trainable_parameters == 0:
        shown = record.details.get("shots", [])
        return Cost(float(len(shown))) if isinstance(shown, list) else Cost(None, "the record names no shots")
    there = record.details.get("train_examples")
    if not isinstance(there, int):
        return Cost(None, "the record counts no training examples")
    return Cost(float(min(there, len(record.curve.train) * record.spec.train.batch_size)))
