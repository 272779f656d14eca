"""The owner of study folders: every path, what is read and written, and damage."""

import json
import os
import re
from pathlib import Path

import pytest

import tuneoff
from support.planned import HASHES, record_of, study_of
from tuneoff.errors import UserError
from tuneoff.results.run_dir import RunDir, StoredRun
from tuneoff.results.run_record import Artefact, Document, Prediction, Record
from tuneoff.results.study_dir import OUTPUTS, StudyDir
from tuneoff.results.study_state import DataFile, PlanFile, SearchCell, SearchFile
from tuneoff.results.summary import Summary
from tuneoff.spec import DataSpec
from tuneoff.study import planner

PACKAGE = Path(tuneoff.__file__).parent
OWN_FILES = ("study.json", "plan.json", "data.json", "budget.json", "search.json", "summary.json", "record.json")
ROW = Prediction(id="a", text="words", scores={"rouge1": 1.0, "empty": 0.0})


def stored_run(folder: StudyDir, folder_name: str = "lora-s0", /, **changes: object) -> StoredRun:
    """A run that is stored in the folder."""
    [planned, *_] = planner.plan(study_of(methods=("lora",)), HASHES, {}).runs
    record = record_of(planned).model_copy(update=changes)
    run = StoredRun(folder.run_dir(folder_name), record)
    run.dir.write_record(record)
    return run


# The name in code, that is, a string of its own; docstrings and messages may mention it.
@pytest.mark.parametrize("name", ["study.json", "plan.json", "budget.json", "search.json", "summary.json"])
def test_one_module_opens_the_files_of_a_study(name: str) -> None:
    quoted = re.compile(rf"""["']{re.escape(name)}["']""")
    found = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if quoted.search(path.read_text(encoding="utf-8"))
    ]
    assert found == ["results/study_dir.py"]


# Folders of runs


def test_a_run_folder_returns_what_was_written(tmp_path: Path) -> None:
    folder = RunDir(tmp_path / "lora-s0-0123")
    with pytest.raises(UserError, match=r"contains no record\.json; name a run folder"):
        folder.read_record()
    assert folder.record_version() is None
    assert not folder.has_record()
    assert folder.read_predictions() == []
    record = stored_run(StudyDir(tmp_path)).record
    folder.write_record(record)
    folder.write_predictions([ROW])
    assert folder.read_record() == record
    assert folder.read_predictions() == [ROW]
    assert folder.record_version() is not None
    assert folder.has_record()
    folder.discard_results()
    assert list(folder.path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"7", b"[]", b"\xff\xfe", b'{"run_id": "x"}', b"[" * 100_000])
def test_a_damaged_record_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(UserError, match=r"record\.json: damaged .*; delete the folder to repeat the run"):
        RunDir(tmp_path).read_record()


def test_a_discarded_attempt_keeps_its_checkpoint(tmp_path: Path) -> None:
    run = stored_run(StudyDir(tmp_path))
    for name in ("checkpoint.safetensors", "predictions.jsonl", "events.jsonl", "log.txt"):
        (run.dir.path / name).write_text("x")
    run.dir.discard_results()
    assert [path.name for path in run.dir.path.iterdir()] == ["checkpoint.safetensors"]


def test_missing_files_of_an_artefact_are_noticed(tmp_path: Path) -> None:
    run = stored_run(StudyDir(tmp_path), artefact=Artefact(format="peft", bytes=1, files=("a.bin", "b.bin")))
    run.dir.artefact.mkdir()
    (run.dir.artefact / "a.bin").write_text("x")
    assert not run.dir.has_artefact_files(run.record)
    (run.dir.artefact / "b.bin").write_text("x")
    assert run.dir.has_artefact_files(run.record)
    assert run.dir.has_artefact_files(run.record.model_copy(update={"artefact": None}))


def test_withheld_texts_are_gone_from_folder_and_memory(tmp_path: Path) -> None:
    run = stored_run(StudyDir(tmp_path), artefact=Artefact(format="prompt", bytes=1, files=("prompt.json",)))
    run.dir.artefact.mkdir()
    (run.dir.artefact / "prompt.json").write_text("a document")
    empty = Prediction(id="b", text="", scores={"empty": 1.0})
    run.dir.write_predictions([ROW, empty])
    assert run.predictions == [ROW, empty]
    stripped = run.withhold_texts()
    assert list(run.dir.artefact.iterdir()) == []
    assert stripped.predictions == run.dir.read_predictions() == [ROW.without_text(), empty]
    assert [row.text_withheld for row in stripped.predictions] == [True, False]
    assert "words" not in (run.dir.path / "predictions.jsonl").read_text()


def test_weights_stay_when_texts_are_withheld(tmp_path: Path) -> None:
    run = stored_run(StudyDir(tmp_path), artefact=Artefact(format="peft", bytes=1, files=("a.bin",)))
    run.dir.artefact.mkdir()
    (run.dir.artefact / "a.bin").write_text("x")
    run.withhold_texts()
    assert run.dir.has_artefact_files(run.record)
    assert not (run.dir.path / "predictions.jsonl").exists()  # there was none


def test_outputs_are_read_once_and_when_they_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = stored_run(StudyDir(tmp_path))
    run.dir.write_predictions([ROW])
    calls: list[RunDir] = []
    real = RunDir.read_predictions

    def counted(own: RunDir) -> list[Prediction]:
        calls.append(own)
        return real(own)

    monkeypatch.setattr(RunDir, "read_predictions", counted)
    assert calls == []
    assert run.outputs is run.outputs
    assert len(calls) == 1
    assert run.predictions == [ROW], "texts are read again, because nothing keeps them"
    assert len(calls) == 2


# Folders of studies


def test_an_empty_folder_is_not_a_study(tmp_path: Path) -> None:
    folder = StudyDir(tmp_path / "study")
    assert not folder.is_study()
    assert not folder.has_foreign_files()
    for read in (folder.read_spec, folder.read_plan, folder.read_data, folder.read_budget, folder.read_search):
        assert read() is None
    assert folder.read_documents() == []
    assert folder.read_baselines() == folder.read_outside() == {}
    assert (folder.run_dirs(), folder.read_runs(), folder.ratings()) == ([], [], [])
    stored = folder.load()
    assert (stored.spec, stored.name, stored.records, stored.groups) == (None, "study", [], {})


def test_every_file_returns_as_it_was_written(tmp_path: Path) -> None:
    folder = StudyDir(tmp_path)
    spec = study_of(name="mine", data=DataSpec(train_file="/secret/train.jsonl"), predictions={"api": "/secret/api"})
    plan = PlanFile(data="d", models={"m": "h"}, numerics=8, runs=("lora-s0",))
    data = DataFile(description="x", counts={"train": 3}, content_hash="h")
    document = Document(id="a", group="g", document="text", references=("r",))
    folder.write_spec(spec)
    folder.write_plan(plan)
    folder.write_data(data)
    folder.write_search(SearchFile())
    folder.write_documents([document])
    folder.write_baselines({"LEAD-1": [ROW]})
    folder.write_outside({"api": [ROW], "old": [ROW]})
    folder.write_summary(Summary(name="mine", created_at="", tuneoff_version="", primary_metric="rouge1"))
    run = stored_run(folder)
    other = stored_run(folder, "full-s0")
    stored = folder.load()
    assert stored.spec == spec.without_paths()
    assert "secret" not in (tmp_path / "study.json").read_text()
    assert (stored.plan, stored.data, stored.name) == (plan, data, "mine")
    assert (stored.documents, stored.groups) == ([document], {"a": "g"})
    assert stored.baselines == {"LEAD-1": [ROW]}
    assert stored.outside == {"api": [ROW]}  # the file of an earlier choice is left out
    assert folder.read_outside() == {"api": [ROW], "old": [ROW]}
    assert list(stored.runs) == [run]  # those that the plan names
    assert stored.run("lora-s0") == run
    assert stored.run("full-s0") is None
    assert [each.name for each in folder.read_runs()] == [other.name, run.name]


def test_a_plan_without_a_choice_writes_none(tmp_path: Path) -> None:
    """`earlier_numerics` is there if earlier runs count, even if there are none: its presence is the choice."""
    folder = StudyDir(tmp_path)
    folder.write_plan(PlanFile(data="d", numerics=8, runs=()))
    assert "earlier_numerics" not in (tmp_path / "plan.json").read_text()
    folder.write_plan(PlanFile(data="d", numerics=8, runs=(), earlier_numerics=()))
    plan = folder.read_plan()
    assert plan is not None
    assert plan.earlier_numerics == ()


def test_a_folder_without_a_plan_has_all_its_runs(tmp_path: Path) -> None:
    folder = StudyDir(tmp_path)
    names = ["b-s0", "a-s0"]
    for name in names:
        stored_run(folder, name)
    assert [run.name for run in folder.load().runs] == sorted(names)


def test_search_results_of_an_earlier_plan_are_left_out(tmp_path: Path) -> None:
    folder = StudyDir(tmp_path)
    folder.write_search(SearchFile())
    assert folder.load().search is not None
    folder.write_spec(study_of(trials=2))
    assert folder.load().search is not None
    folder.write_spec(study_of())
    assert folder.load().search is None


@pytest.mark.parametrize("name", ["study.json", "plan.json", "data.json", "search.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"7", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_file_is_one_sentence_with_its_path(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=re.escape(f"{name}: damaged")) as caught:
        StudyDir(tmp_path).load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"7", b"[]", b"\xff\xfe", b'{"asked": "x", "given_up": "y"}', b"[" * 100_000]
)
def test_a_damaged_budget_does_not_keep_the_results_from_being_read(tmp_path: Path, content: bytes) -> None:
    folder = StudyDir(tmp_path)
    stored_run(folder)
    (tmp_path / "budget.json").write_bytes(content)
    with pytest.raises(UserError, match=r"damaged .*delete it to plan again"):
        folder.read_budget()
    stored = folder.load()
    assert isinstance(stored.budget, UserError)
    assert len(stored.runs) == 1


def test_a_budget_without_a_number_is_damaged(tmp_path: Path) -> None:
    folder = StudyDir(tmp_path)
    settings: dict[str, object] = {
        "max_validation_documents": None, "max_test_documents": None, "trials": 0, "fractions": [1.0],
        "max_steps": None, "min_steps": None, "step_floor": 50, "seeds": 1, "steps": {},
    }  # fmt: skip
    plain = {"asked": "x", "seconds": float("nan"), "fits": True, "given_up": [], "settings": settings}
    (tmp_path / "budget.json").write_text(json.dumps(plain))
    with pytest.raises(UserError, match="damaged"):
        folder.read_budget()
    (tmp_path / "budget.json").write_text(json.dumps({**plain, "seconds": 1.0}))
    assert folder.read_budget() is not None


def test_damaged_records_are_left_out_or_refused(tmp_path: Path) -> None:
    folder = StudyDir(tmp_path)
    run = stored_run(folder)
    stored_run(folder, "broken")
    (tmp_path / "runs" / "broken" / "record.json").write_text("{")
    assert folder.read_runs(skip_damaged=True) == [run]
    with pytest.raises(UserError, match="damaged"):
        folder.read_runs()


def test_a_damaged_record_outside_the_plan_does_not_matter(tmp_path: Path) -> None:
    folder = StudyDir(tmp_path)
    run = stored_run(folder)
    stored_run(folder, "broken")
    (tmp_path / "runs" / "broken" / "record.json").write_text("{")
    folder.write_plan(PlanFile(runs=("lora-s0",)))
    assert list(folder.load().runs) == [run]


def test_only_changed_records_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = StudyDir(tmp_path)
    for name in ("a", "b"):
        stored_run(folder, name)
    before = folder.read_runs()
    changed = stored_run(folder, "b", name="now")
    new = stored_run(folder, "c")
    read = []
    real = RunDir.read_record

    def counted(own: RunDir) -> Record:
        read.append(own.name)
        return real(own)

    monkeypatch.setattr(RunDir, "read_record", counted)
    after = folder.read_runs(known=before)
    assert read == ["b", "c"]
    assert after == [before[0], changed, new]


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="is a file"):
            StudyDir(path).check_writable()


def test_checking_whether_a_folder_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    StudyDir(tmp_path / "a" / "b").check_writable()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_file_is_not_foreign(tmp_path: Path) -> None:
    folder = StudyDir(tmp_path)
    with folder.lock():
        assert not folder.has_foreign_files()
    (tmp_path / "thesis.tex").write_text("x")
    assert folder.has_foreign_files()


def test_ratings_are_found_by_their_names(tmp_path: Path) -> None:
    for name in ("ratings.json", "ratings (1).json", "other.json"):
        (tmp_path / name).write_text("{}")
    assert [path.name for path in StudyDir(tmp_path).ratings()] == ["ratings (1).json", "ratings.json"]


def test_the_end_of_a_log(tmp_path: Path) -> None:
    folder = RunDir(tmp_path)
    assert folder.log_tail(4) == ""
    folder.log.write_text("first\nlast")
    assert folder.log_tail(4) == "last"
    assert folder.log_tail(100) == "first\nlast"


def test_a_study_is_complete_if_no_planned_run_is_missing(tmp_path: Path) -> None:
    folder = StudyDir(tmp_path)
    folder.write_plan(PlanFile(runs=("lora-s0", "lora-s1")))
    stored_run(folder, "lora-s0", status="failed")
    assert not folder.load().complete
    stored_run(folder, "lora-s1", status="interrupted")
    assert not folder.load().complete
    stored_run(folder, "lora-s1")
    assert folder.load().complete
    folder.write_spec(study_of(methods=("lora",), trials=1))
    assert not folder.load().complete  # a search that was never written down
    folder.write_search(SearchFile(cells=(SearchCell(model="m", method="lora", hyperparameter="r"),)))
    assert not folder.load().complete
    folder.write_search(SearchFile(cells=(SearchCell(model="m", method="lora", hyperparameter="r", chosen=4),)))
    assert folder.load().complete


@pytest.mark.parametrize(
    "name",
    [
        "runs",
        "figures",
        "runs/lora-s0",
        "runs/lora-s0/artefact",
        "runs/lora-s0/log.txt",
        "claims/lora-s0",
        "attempts/a.1",
    ],
)
def test_a_link_in_a_folder_to_write_to_is_refused(tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = tmp_path / "study" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    with pytest.raises(UserError, match=r"a link, and tuneoff writes only inside"), StudyDir(tmp_path / "study").lock():
        pass


def test_digests_of_outputs_in_a_pipe_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / OUTPUTS)
    assert StudyDir(tmp_path).outputs() is None  # and it does not wait for a writer


def test_temporary_files_of_a_killed_start_block_nothing_and_are_removed(tmp_path: Path) -> None:
    folder = StudyDir(tmp_path)
    run = stored_run(folder).dir.path
    for path in (tmp_path / ".tuneoff-01", run / ".tuneoff-23"):
        path.write_text("x")
    with folder.lock():
        assert not list(tmp_path.rglob(".tuneoff-*"))
    start = StudyDir(tmp_path / "start")
    start.path.mkdir()
    (start.path / ".tuneoff-45").write_text("x")
    assert not start.has_foreign_files()


@pytest.mark.parametrize("place", ["runs", "outside"])
def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path, place: str) -> None:
    """It could not be written into the files that name it."""
    folder = StudyDir(tmp_path)
    stored_run(folder)
    odd = Path(os.fsdecode(os.fsencode(tmp_path / place) + b"/lora\xff.jsonl"))
    odd.parent.mkdir(exist_ok=True)
    odd.mkdir()
    with pytest.raises(UserError, match="its name is not UTF-8; rename it, or remove it"):
        folder.load() if place == "runs" else folder.read_outside()


def test_a_run_or_rating_that_is_elsewhere_by_a_link_is_not_read(tmp_path: Path) -> None:
    other, folder = StudyDir(tmp_path / "other"), StudyDir(tmp_path / "study")
    stored_run(other)
    stored_run(folder)
    (folder.path / "runs" / "linked").symlink_to("lora-s0")  # inside
    assert [run.name for run in folder.run_dirs()] == ["linked", "lora-s0"]
    for name, target, read in (
        ("runs/lora-s1", other.run_dir("lora-s0").path, folder.load),
        ("attempts/lora-s1.1", other.run_dir("lora-s0").path, folder.logs_in_progress),
        ("ratings.json", other.run_dir("lora-s0").path / "record.json", folder.ratings),
        ("runs/lora-s0/log.txt", other.path / "none", lambda: folder.run_dir("lora-s0").log_tail(9)),
        ("runs/lora-s0/artefact", other.path, lambda: folder.run_dir("lora-s0").check_artefact()),
    ):
        link = folder.path / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(target)
        with pytest.raises(UserError, match=f"{name}: a link to .*other.*, outside of"):
            read()
        link.unlink()
    (tmp_path / "typed").symlink_to(folder.path)
    assert len(StudyDir(tmp_path / "typed").load().runs) == 2
