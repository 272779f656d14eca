"""A run folder has one owner: what it writes it reads again, and nothing else opens a file in it."""

from pathlib import Path

import pytest

from tuneoff.errors import UserError
from tuneoff.results.run_dir import RunDir, StoredRun
from tuneoff.results.run_record import Artefact, Prediction, Record
from tuneoff.spec import DataSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec

SPEC = RunSpec(
    model=ModelSpec(), prompt=PromptSpec(), data=DataSpec(source="starter"), method=MethodSpec(name="few_shot")
)


def record(**changes: object) -> Record:
    return Record(run_id="0", name="few_shot-s0", status="finished", spec=SPEC, started_at="").model_copy(
        update=changes
    )


def test_a_record_survives_and_a_damaged_one_names_the_way_out(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "few_shot-s0-0")
    with pytest.raises(UserError, match=r"no record\.json"):
        run.read_record()
    run.write_record(record())
    assert run.read_record() == record()
    (run.path / "record.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        run.read_record()


def test_withheld_texts_leave_scores_and_no_prompt_of_documents(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.write_predictions([Prediction(id="a", text="secret", scores={"rouge1": 1.0, "empty": 0.0})])
    run.artefact.mkdir()
    (run.artefact / "shots.json").write_text("secret")
    stored = StoredRun(run, record(artefact=Artefact(format="prompt", bytes=6, files=("shots.json",))))
    [row] = stored.withhold_texts().predictions
    assert (row.text, row.scores["rouge1"], row.text_withheld) == ("", 1.0, True)
    assert "secret" not in "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_an_earlier_attempt_is_discarded_and_its_checkpoint_stays(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.write_record(record())
    run.write_predictions([Prediction(id="a", text="b")])
    (tmp_path / "checkpoint.safetensors").write_text("state")
    run.discard_results()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]
