"""A small finished study without a model, and ways in which its files get damaged."""

import json
from collections.abc import Callable
from pathlib import Path

from support.planned import HASHES, record_of, study_of
from tuneoff.results.events import events_of
from tuneoff.results.json_files import jsonl_text, write_text_atomic
from tuneoff.results.run_record import Artefact, Document, Prediction
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import DataFile, PlanFile, SearchFile
from tuneoff.results.summary import Summary
from tuneoff.study import planner


def write_study(path: Path) -> StudyDir:
    """Two runs with predictions and weights, and every other file of a study."""
    folder = StudyDir(path)
    study = study_of(methods=("zero_shot", "lora"), predictions={"api": "api.jsonl"})
    planned = planner.plan(study, HASHES, {}).runs[:2]
    with folder.lock():
        folder.write_spec(study)
        folder.write_plan(PlanFile(data="d", numerics=8, runs=tuple(run.folder for run in planned)))
        folder.write_data(DataFile(description="x", counts={"train": 3}))
        folder.write_search(SearchFile())
        folder.write_documents([Document(id="a", group="g", document="text", references=("r",))])
        folder.write_baselines({"LEAD-1": [Prediction(id="a", text="lead", scores={"rouge1": 12.5})]})
        folder.write_outside({"api": [Prediction(id="a", text="outside", scores={"rouge1": 22.5})]})
        for number, run in enumerate(planned):
            own = folder.run_dir(run.folder)
            own.new_artefact()
            (own.artefact / "weights.bin").write_bytes(bytes(range(200)) * (number + 1))
            own.write_predictions([Prediction(id="a", text=f"text {number}", scores={"rouge1": 30.0 + number})])
            artefact = Artefact(format="peft", bytes=200, files=("weights.bin",))
            record = record_of(run).model_copy(update={"artefact": artefact})
            write_text_atomic(own.events, jsonl_text(events_of(record)))
            own.write_record(record)
            folder.cover_runs([run.folder])
        folder.write_summary(Summary(name="mine", created_at="", tuneoff_version="", primary_metric="rouge1"))
        folder.write_page(folder.report, "<html>")
        folder.cover_outputs()
    return folder


def content(folder: StudyDir) -> dict[str, object]:
    """Everything that judging reads."""
    stored = folder.load()
    found: dict[str, object] = {
        "spec": stored.spec,
        "plan": stored.plan,
        "data": stored.data,
        "documents": stored.documents,
        "baselines": stored.baselines,
        "outside": stored.outside,
    }
    for run in stored.runs:
        found[run.name] = (run.record, run.predictions)
    return found


def _later_key(data: bytes) -> bytes:
    try:
        plain = json.loads(data)
    except ValueError:
        return data + b"{}\n"
    return json.dumps({**plain, "of_a_later_version": 1}).encode() if isinstance(plain, dict) else data


def _other_digit(data: bytes) -> bytes:
    at = next((at for at in reversed(range(len(data))) if data[at : at + 1].isdigit()), 0)
    return data[:at] + (b"7" if data[at : at + 1] != b"7" else b"8") + data[at + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "bit": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "digit": _other_digit,
    "cut": lambda data: data[: len(data) // 2],
    "emptied": lambda _data: b"",
    "zeros": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "later": _later_key,
}
