"""`tuneoff init` writes a study that runs as it is."""

import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tiny import sentence
from tuneoff.cli import main
from tuneoff.profiling.other_programs import OtherPrograms, OtherProgramsMeter
from tuneoff.results.study_state import Speed
from tuneoff.study import speed_probe
from tuneoff.study.study_file import read_study


@pytest.fixture
def folder(
    tmp_path: Path, tiny_data: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[[str], Path]
) -> Path:
    """The current folder: data in `mine/`, and a model next to it."""
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here" / "mine").mkdir(parents=True)
    for split, path in tiny_data.items():
        shutil.copy(path, tmp_path / "here" / "mine" / f"{split}.jsonl")
    shutil.copytree(tiny_model("gpt_neo"), tmp_path / "here" / "model")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def complaint(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(command) == 2
    output = capsys.readouterr()
    assert output.out == ""
    [line] = output.err.splitlines()
    return line


EMAILS = Path(__file__).parents[2] / "docs" / "emails.csv"
COMMAND = ["init", "mine/train.jsonl", "--model=model", "--no-probe", "--max-length=256"]


def test_the_file_runs_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "mine/test.jsonl", "--output=studies/first.toml", "--methods=zero_shot"]) == 0
    output = capsys.readouterr()
    assert "next: tuneoff compare studies/first.toml --budget 15m" in output.out
    assert "detects  not estimated" in output.out
    text = (folder / "studies" / "first.toml").read_text(encoding="utf-8")
    assert 'train_file = "../mine/train.jsonl"' in text
    assert 'models = ["../model"]' in text
    assert "# - documents: median " in text
    study = read_study(folder / "studies" / "first.toml")
    assert study.prompt.max_length == 256
    (folder / "elsewhere").mkdir()
    assert main(["compare", "studies/first.toml", "--dry-run", "--output=out"]) == 0
    planned = capsys.readouterr().out
    assert "zero_shot" in planned
    [facts] = [line.removeprefix("# - ") for line in text.splitlines() if "documents: median" in line]
    assert f"        {facts}\n" in planned  # the plan has the same facts


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_the_methods_that_are_suggested_are_carried_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Documents that fill the model's positions, and wanted texts of the same length."""
    rows = [{"document": sentence(at, 400), "summary": sentence(at, 300)} for at in range(30)]
    Path("long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["init", "long.jsonl", "--model=model", "--no-probe"]) == 0
    small = ["--max-steps=1", "--trials=0", "--seeds=1", "--output=out"]
    assert main(["compare", "study.toml", *small]) == 0
    output = capsys.readouterr()
    assert all(name in output.out for name in ("Zero-shot", "Soft prompt", "LoRA", "Full"))
    assert "failed" not in output.out + output.err


def test_the_estimate_comes_from_a_probe_that_is_kept(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(study, *_: object) -> dict[tuple[str, str], Speed]:
        return {(study.models[0].name, name): Speed(start=1, step=1, check=1, write=1) for name in study.methods}

    monkeypatch.setattr(speed_probe, "measure_speeds", measured)
    monkeypatch.setattr(OtherProgramsMeter, "measure", lambda _: OtherPrograms(1.3, 2))
    command = [word for word in COMMAND if word != "--no-probe"]
    more = ["mine/test.jsonl", "--json"]
    assert main([*command, *more]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert [each["budget"] for each in plain["outlooks"]] == ["15m", "1h", "10h"]
    text = Path("study.toml").read_text(encoding="utf-8")
    assert "What limited times can detect" in text
    assert "# - other programs used 1.3 of 2 processor cores while this was measured" in text
    assert plain["other_programs"] == {"cores": 1.3, "of_cores": 2}
    monkeypatch.setattr(speed_probe, "measure_speeds", lambda *_: pytest.fail("measured again"))
    assert main([*COMMAND, *more, "--force"]) == 0
    assert json.loads(capsys.readouterr().out)["outlooks"] == plain["outlooks"]
    assert main([*COMMAND, "mine/test.jsonl", "--force"]) == 0
    assert "detects  other programs used 1.3 of 2 processor cores" in capsys.readouterr().out  # kept with the speeds


def test_every_setting_of_the_suggestion_is_in_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--document-column=document", "--test-share=0.25", "--metric=rougeL", "--revision=main", "--epochs=2"]
    name = 'a "b".toml'
    assert main([*COMMAND, *flags, f"--output={name}", "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)["study"]
    found = tomllib.loads(Path(name).read_text(encoding="utf-8"))
    assert found["metric"] == "rougeL"
    assert found["data"]["test_share"] == 0.25
    assert found["models"] == [{"name": "model", "revision": "main"}]
    assert read_study(Path(name)).train.epochs == 2
    assert found["prompt"]["instruction"] == plain["prompt"]["instruction"]


@pytest.mark.usefixtures("folder")
def test_what_is_typed_as_nothing_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """0 trials were asked for, and are no gap that a suggestion fills."""
    assert main([*COMMAND, "--methods=zero_shot,lora", "--trials=0"]) == 0
    found = tomllib.loads(Path("study.toml").read_text(encoding="utf-8"))
    assert (found["trials"], found["seeds"]) == (0, 3)
    assert "3 seeds, 0 trials" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
def test_settings_of_one_method_are_rows() -> None:
    assert main([*COMMAND, "--methods=lora,lora@r=64"]) == 0
    assert tomllib.loads(Path("study.toml").read_text(encoding="utf-8"))["methods"] == ["lora", "lora@r=64"]
    assert read_study(Path("study.toml")).hyperparameters["lora@r=64"]["r"] == 64


@pytest.mark.usefixtures("folder")
def test_folds_test_every_document() -> None:
    assert main([*COMMAND, "--methods=zero_shot,lora", "--folds=3"]) == 0
    study = read_study(Path("study.toml"))
    assert (study.data.folds, study.data.test_share) == (3, 0.1)


@pytest.mark.usefixtures("folder")
def test_columns_without_a_usual_name_are_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(EMAILS, "emails.csv")
    assert main(["init", "emails.csv", *COMMAND[2:], "--methods=zero_shot"]) == 0
    assert "CAUTION: document_column is a guess: 'email'; correct it in study.toml" in capsys.readouterr().err
    assert "# a guess: the column with the longest texts" in Path("study.toml").read_text(encoding="utf-8")
    study = read_study(Path("study.toml"))
    assert (study.data.document_column, study.data.summary_column) == ("email", "subject")
    assert study.prompt.instruction == "Write a subject line for the following email."


def test_a_file_that_is_there_is_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "study.toml").write_text("mine")
    assert "study.toml: is there already; --force" in complaint(COMMAND, capsys)
    assert (folder / "study.toml").read_text() == "mine"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("init", "no data; name a file, for example tuneoff init emails.csv"),
        ("init -", "tuneoff init -: a study file names its data"),
        ("init mine mine/train.jsonl", "mine: a folder or an archive holds all the splits; name it alone"),
        ("init missing.csv", "missing.csv: there is no such file"),
        ("init mine/train.jsonl --output=a.txt", "--output a.txt: the name of a study file ends in .toml"),
        ("init mine/train.jsonl --model=model --model=other", "give one --model"),
        ("init mine/train.jsonl --num-beams=65", "--num-beams: `num_beams` should be less than or equal to 64, not 65"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_sentence(
    command: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in complaint(command.split(), capsys)
    assert not Path("study.toml").exists()


@pytest.mark.usefixtures("folder")
def test_a_folder_of_splits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "mine", *COMMAND[2:], "--methods=zero_shot,lora"]) == 0
    assert read_study(Path("study.toml")).data.source == "mine"
    assert "train 24 pairs" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
def test_files_by_the_splits_in_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "test"):
        lines = Path("mine", f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        lines.append(json.dumps({"document": "A text without a summary.", "summary": ""}))
        Path(f"papers_{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    files = ["papers_train.jsonl", "papers_test.jsonl"]
    assert main(["init", *files, *COMMAND[2:], "--methods=zero_shot"]) == 0
    data = read_study(Path("study.toml")).data
    assert (data.train_file, data.test_file) == ("papers_train.jsonl", "papers_test.jsonl")
    dropped = "train: 1 row dropped, "
    assert dropped in capsys.readouterr().out
    assert f"# - {dropped}" in Path("study.toml").read_text(encoding="utf-8")
