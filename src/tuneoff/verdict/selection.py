"""The hand-over: of a study, the run to use. The method by its verdict, of its seeds the one that validation chose."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean

from tuneoff.errors import UserError
from tuneoff.results.run_record import ARTEFACT, Record, read_record, run_folders
from tuneoff.spec.run import Frozen
from tuneoff.verdict.judge import DECIDES, Whole, judge_study
from tuneoff.verdict.sentences import listed


class Winner(Frozen):
    """The run to use, by the name of its folder in `runs/`, and why it is that one."""

    run: str
    method: str
    title: str
    model: str
    seed: int
    why: str
    card: bool = False  # whether its artefact has a README.md that tells how to load it


def find_winner(study: Path, method: str | None = None, model: str | None = None) -> Winner:
    """The run to use of a study, or of its runs of one `method` or on one `model`.

    Raises `UserError` where no run has finished, or none of that name.
    """
    records = {folder: read_record(folder) for folder in run_folders(study)}
    usable = {folder: record for folder, record in records.items() if _is_usable(folder, record)}
    if not usable:
        raise UserError(f"{study}: no finished run on all the data there; name the folder that `tuneoff compare` wrote")
    for flag, name, known in (
        ("--method", method, {record.spec.method.name for record in usable.values()}),
        ("--model", model, {record.spec.model.name for record in usable.values()}),
    ):
        if name is not None and name not in known:
            raise UserError(f"{flag} {name}: the study has no finished run of it; there are {', '.join(sorted(known))}")
    found = choose(judge_study(study), usable, method, model)
    if found is None:
        raise UserError(f"--method {method} --model {model}: the study has no finished run of both")
    return found


def choose(
    judged: Iterable[Whole], records: Mapping[Path, Record], method: str | None = None, model: str | None = None
) -> Winner | None:
    """The same from what was read, None where nothing can be used: the highest mean, on whatever model, of methods with
    finished runs on all the data; of their seeds the one with the lowest validation loss."""
    found: list[tuple[float, Whole, list[Path]]] = []
    for whole in judged:
        means = {result.method: result.mean for result in whole.verdict.methods}  # none where nothing was judged
        for name in whole.scores.methods:
            folders = [
                folder
                for folder, record in records.items()
                if _is_usable(folder, record)
                and record.spec.method.name == name
                and record.spec.model.name == (whole.scores.block or record.spec.model.name)
                and method in (None, name)
                and model in (None, record.spec.model.name)
            ]
            if folders:
                alone = fmean(records[folder].scores.get(DECIDES) or 0.0 for folder in folders)
                found.append((means.get(name, alone), whole, folders))
    if not found:
        return None
    mean, whole, folders = max(found, key=lambda one: one[0])
    folder = min(folders, key=lambda folder: (_loss(records[folder]), records[folder].spec.seed))
    spec = records[folder].spec
    others = [whole.scores.title(name) for name in whole.verdict.best_set if name != spec.method.name]
    better = [result.title for result in whole.verdict.methods if result.mean > mean]
    if method is not None:
        why = "the method that was asked for"
    else:
        why = "the highest mean" if model is None else "the highest mean on that model"
        if better:
            leave = "leaves" if len(better) == 1 else "leave"
            why += f" but for {listed(better)}, which {leave} nothing to use"
        elif others and spec.method.name in whole.verdict.best_set:
            why += f"; {listed(others)} may be the best too, which --method NAME takes"
    if len(folders) > 1:
        why += f"; of its {len(folders)} seeds the one with the lowest validation loss"
    return Winner(
        run=folder.name,
        method=spec.method.name,
        title=whole.scores.title(spec.method.name),
        model=spec.model.name,
        seed=spec.seed,
        why=why,
        card=(artefact := records[folder].artefact) is not None and "README.md" in artefact.files,
    )


def _is_usable(folder: Path, record: Record) -> bool:
    if not record.spec.is_main or record.status != "finished":
        return False
    artefact = record.artefact
    if artefact is None or artefact.format != "prompt":
        return True
    return all((folder / ARTEFACT / name).exists() for name in artefact.files)  # which --no-texts takes out


def _loss(record: Record) -> float:
    loss = record.curve.best_validation_loss
    return math.inf if loss is None else loss
