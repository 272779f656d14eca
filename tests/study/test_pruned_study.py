"""A whole study with pruning on a tiny model: what is pruned, what is stored, and that it continues."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tuneoff.cli import main
from tuneoff.results.manifest import MANIFEST
from tuneoff.results.run_dir import RunDir
from tuneoff.results.run_record import Curve, Record
from tuneoff.results.study_dir import StudyDir
from tuneoff.run import run
from tuneoff.spec import DataSpec, TrainSpec
from tuneoff.study import search

pytestmark = pytest.mark.xdist_group("pruned study")

LOW, MIDDLE, HIGH = search.grid("lora", "learning_rate", 3)
TinyModel = Callable[[str], Path]
Files = dict[str, Path]


def command(model: Path, files: Mapping[str, Path], *flags: str) -> list[str]:
    small = ["--max-length=128", "--max-new-tokens=4", "--max-steps=12", "--min-steps=12", "--precision=fp32"]
    data = [f"--{split}-file={path}" for split, path in files.items()]
    usual = [*small, "--methods=zero_shot,lora", "--trials=3"]
    typed = {flag.partition("=")[0] for flag in flags}
    return [
        "compare",
        f"--model={model}",
        *data,
        *(flag for flag in usual if flag.partition("=")[0] not in typed),
        *flags,
    ]


@pytest.fixture(scope="module")
def pruned_study(tiny_model: TinyModel, tiny_data: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study with pruning on a tiny model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        folder = tmp_path_factory.mktemp("halving") / "study"
        assert main(command(tiny_model("gpt_neo"), tiny_data, "--halving", "--quiet", f"--output={folder}")) == 0
    return folder


def trials_of(folder: Path) -> dict[object, Record]:
    """LoRA's trials by rate, in the order in which they were begun."""
    found = [stored.record for stored in StudyDir(folder).read_runs() if stored.name.startswith("lora-trial")]
    return {record.spec.method.hyperparameters["learning_rate"]: record for record in found}


@pytest.mark.slow
def test_trials_are_pruned_where_their_limits_say(
    pruned_study: Path, tiny_data: Mapping[str, Path], tmp_path: Path
) -> None:
    pruned = trials_of(pruned_study)
    assert len(pruned) == 4
    assert list(pruned)[:3] == [MIDDLE, LOW, HIGH]
    files = DataSpec.model_validate({f"{split}_file": str(path) for split, path in tiny_data.items()})
    assert any(record.curve.cut_at for record in pruned.values()), "nothing was pruned: this study would prove nothing"
    for record in pruned.values():
        own = {point.step: point.loss for point in record.curve.validation}
        above = [step for step, limit in record.spec.cut_above if limit is not None and own.get(step, 0) > limit]
        assert record.status == "finished"
        assert above == ([record.curve.cut_at] if record.curve.cut_at else [])
        assert len(record.curve.train) == (record.curve.cut_at or 12)
        # As a full trial: the same schedule and the same steps; an early check changes nothing.
        spec = record.spec.model_copy(update={"cut_above": (), "data": files})
        whole = run(spec, tmp_path / record.run_id, "id", "name").curve
        assert len(whole.train) == 12
        for one, other in zip(record.curve.train, whole.train, strict=False):
            assert one.loss == pytest.approx(other.loss, rel=1e-5)  # the study had one thread
            assert one.learning_rate == other.learning_rate
        if record.curve.cut_at is None:
            assert record.curve.best_validation_loss == pytest.approx(whole.best_validation_loss, rel=1e-5)
            assert record.curve.best_step == whole.best_step


@pytest.mark.slow
def test_the_search_is_reported_with_what_it_saved(pruned_study: Path) -> None:
    records = trials_of(pruned_study)
    found = StudyDir(pruned_study).read_search()
    assert found is not None
    wordings, rates = (next(cell for cell in found.cells if cell.method == name) for name in ("zero_shot", "lora"))
    assert wordings.saved is None
    assert records[rates.chosen].curve.cut_at is None
    assert [trial.cut_at for trial in rates.trials] == [record.curve.cut_at for record in records.values()]
    for trial in rates.trials:
        assert (trial.validation_loss is None) == (trial.cut_at is not None)
        assert (trial.loss_when_pruned is None) == (trial.cut_at is None)
    assert rates.saved is not None
    assert rates.saved.steps == 4 * 12 - rates.steps > 0
    assert isinstance(rates.saved.seconds, float)
    page = (pruned_study / "report.html").read_text()
    assert "pruned at step 6" in page
    assert f"{rates.saved.steps} steps, about" in page


@pytest.mark.slow
def test_an_interrupted_pruned_study_goes_on(
    pruned_study: Path, tiny_model: TinyModel, tiny_data: Files, tmp_path: Path
) -> None:
    """As if it had been stopped in its third trial: later runs are gone, that one is interrupted."""
    folder = tmp_path / "study"
    shutil.copytree(pruned_study, folder)
    before = {path.parent.name: path.stat().st_mtime_ns for path in folder.rglob("record.json")}
    [third] = folder.glob("runs/lora-trial3-*")
    record = RunDir(third).read_record()
    RunDir(third).write_record(record.model_copy(update={"status": "interrupted", "curve": Curve()}))
    for changed in (third, folder):  # the change is no damage
        (changed / MANIFEST).unlink()
    gone = [*folder.glob("runs/lora-trial4-*"), *folder.glob("runs/lora-s0-*")]
    for path in gone:
        shutil.rmtree(path)
    again = command(tiny_model("gpt_neo"), tiny_data, "--halving", "--quiet", f"--output={folder}")
    assert main(again) == 0
    after = {path.parent.name: path.stat().st_mtime_ns for path in folder.rglob("record.json")}
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {third.name, *(path.name for path in gone)}
    chosen = [json.loads((path / "search.json").read_text())["cells"][1]["chosen"] for path in (folder, pruned_study)]
    assert chosen[0] == chosen[1]


def test_pruning_without_anything_to_prune_is_refused(
    tiny_model: TinyModel,
    tiny_data: Files,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_model("gpt_neo")
    capsys.readouterr()  # the progress bars of making it

    def message(*flags: str) -> str:
        assert main(command(tiny_model("gpt_neo"), tiny_data, *flags)) == 2
        out, err = capsys.readouterr()
        assert not out
        assert err.count("\n") == 1, err
        return err

    assert "--halving: without trials there is nothing to prune; set trials too" in message("--halving", "--trials=0")
    assert "no trial of this study can be pruned" in message("--halving", "--max-steps=8", "--min-steps=8")
    assert "no trial of this study can be pruned" in message("--halving", "--methods=zero_shot")
    file = tmp_path / "mine.toml"
    file.write_text('methods = ["lora"]\nhalving = true\n[data]\nsource = "starter"\n')
    assert main(["compare", str(file)]) == 2
    assert "mine.toml, line 2: without trials" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


def test_the_plan_says_where_trials_may_be_pruned(
    tiny_model: TinyModel,
    tiny_data: Files,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command(tiny_model("gpt_neo"), tiny_data, "--halving", "--dry-run")) == 0
    assert "a bad one is pruned at step 6" in capsys.readouterr().out
    assert main([*command(tiny_model("gpt_neo"), tiny_data, "--dry-run")]) == 0
    assert "pruned" not in capsys.readouterr().out
    assert TrainSpec().warmup < 0.25  # else the quarter would never be a rung
