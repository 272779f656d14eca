"""The commands, from the command line to files and exit codes."""

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from support.study_folders import planned_run_folders, read_documents, read_predictions, read_record
from tuneoff import stopping
from tuneoff.api import Study
from tuneoff.cli import expand_home, guard, main
from tuneoff.errors import RunFailure, UserError
from tuneoff.results.run_dir import RunDir, StoredRun
from tuneoff.results.run_record import Record
from tuneoff.results.study_dir import StoredStudy, StudyDir
from tuneoff.results.study_state import DataFile, PlanFile, SearchCell, SearchFile
from tuneoff.results.summary import Summary
from tuneoff.spec import DataSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def without(arguments: list[str], *flags: str) -> list[str]:
    """The arguments without some flags, which a test gives other values."""
    return [argument for argument in arguments if argument.partition("=")[0] not in flags]


def complaint(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence that a wrong request gets."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert "Traceback" not in err
    assert err.count("\n") == 1, err
    return err


def test_dry_run_prints_the_plan_and_changes_nothing(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *tiny, "--seeds=2", "--set=lora.r=4", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "train 24 pairs of 24 documents" in out
    assert "lora-s1" in out
    assert "2 steps  r=4" in out
    assert "zero_shot-s0" in out
    assert "zero_shot-s1" not in out
    assert tree(Path.cwd()) == set()


def test_a_refusal_that_needs_no_library_loads_none(tiny: list[str], tmp_path: Path) -> None:
    """Importing torch, transformers and SciPy takes up to ten seconds, after which a typing error is no longer news."""
    small = tmp_path / "small"
    shutil.copytree(Path(tiny[0].partition("=")[2]), small)
    tokenizer = json.loads((small / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary.update({f"<more{index}>": len(vocabulary) + index for index in range(9)})
    (small / "tokenizer.json").write_text(json.dumps(tokenizer))
    data = without(tiny, "--model")
    refused = {
        "there is no such file": ["compare", tiny[0], "--train-file=none.jsonl"],
        "there is no column": ["compare", *tiny, "--document-column=none"],
        "no layer of this model": ["compare", *tiny, "--set=lora.target_modules=nope"],
        "this model has 2 blocks": ["train", "last_layers", *tiny, "--num-layers=3"],
        "has 512 positions": ["compare", *without(tiny, "--max-length"), "--max-length=4096"],
        "embedding 400 rows": ["compare", *data, f"--model={small}"],
        "no such folder or file": ["compare", *data, "--model=./none"],
        "no flag --nope": ["compare", "--nope=1"],
    }
    code = (
        "import json, sys\nfrom tuneoff.cli import main\n"
        "slow = {'torch', 'transformers', 'scipy', 'pandas', 'altair'}\n"
        "for arguments in json.loads(sys.argv[1]): print(main(arguments), *sorted(slow & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, json.dumps(list(refused.values()))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split("\n")[:-1] == ["2"] * len(refused)
    for said, line in zip(refused, done.stderr.splitlines(), strict=True):
        assert said in line


def test_a_known_model_is_planned_without_torch(tiny: list[str]) -> None:
    assert main(["check", *tiny]) == 0  # this process has loaded torch, and the model is known from here on
    code = (
        "import json, sys\nfrom tuneoff.cli import main\n"
        "for command in json.loads(sys.argv[1]): assert main(command) == 0\nprint('torch' in sys.modules)"
    )
    commands = json.dumps([["check", *tiny], ["compare", *tiny, "--dry-run"]])
    done = subprocess.run(
        [sys.executable, "-c", code, commands], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_spellings_give_the_same_plan(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    plans = []
    for flags in (["--batch-size", "4"], ["--batch_size=4"], ["--per_device_train_batch_size", "4"]):
        assert main(["compare", *tiny, *flags, "--dry-run", "--json"]) == 0
        plans.append(json.loads(capsys.readouterr().out))
    assert plans[0] == plans[1] == plans[2]


def test_flags_override_the_file(tiny: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text('name = "mine"\nmethods = ["full"]\n[data]\nsource = "starter"\n[train]\nbatch_size = 2\n')
    assert main(["compare", str(study), *tiny, "--batch-size=3", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["name"] == "mine"
    [run] = plan["runs"]
    assert run["spec"]["train"]["batch_size"] == 3
    assert run["spec"]["data"]["source"] is None


# The kinds of bad input that the first issue names, one by one.


def test_missing_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere.jsonl" in complaint(["compare", "--train-file=nowhere.jsonl"], capsys)


def test_wrong_column(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    err = complaint(["compare", *tiny, "--document-column=documnet"], capsys)
    assert "documnet" in err
    assert "document" in err.replace("documnet", "")


def test_empty_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    assert "empty.jsonl" in complaint(["compare", f"--train-file={tmp_path / 'empty.jsonl'}"], capsys)


def test_broken_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.jsonl").write_text('{"document": "a b", "summary": "a"}\n' * 16 + "document: c\n")
    err = complaint(["compare", f"--train-file={tmp_path / 'broken.jsonl'}"], capsys)
    assert "broken.jsonl" in err
    assert "17" in err


def test_unknown_method(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean lora?" in complaint(["compare", *tiny, "--methods=full,loar"], capsys)
    assert "did you mean soft_prompt?" in complaint(["train", "soft-promt", *tiny], capsys)


def test_model_folder_without_weights(
    tiny: list[str], tiny_model: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model").mkdir()
    config = (tiny_model("gpt_neo") / "config.json").read_text()
    (tmp_path / "model" / "config.json").write_text(config)
    err = complaint(["compare", f"--model={tmp_path / 'model'}", *tiny[1:]], capsys)
    assert str(tmp_path / "model") in err
    assert "no weights" in err


def test_folder_that_cannot_be_written(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "study"):
        for more in ([], ["--dry-run"]):
            err = complaint(["compare", *tiny, f"--output={place}", *more], capsys)
            assert f"{tmp_path / 'file'}: is a file, not a folder; choose another --output" in err
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.access(closed, os.W_OK):  # root may write anywhere: let the system say what it would tell others

        def refused(*args: object, **options: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("tuneoff.results.study_dir.tempfile.mkstemp", refused)
    err = complaint(["compare", *tiny, f"--output={closed / 'study'}"], capsys)
    assert "Permission denied" in err
    assert list(closed.iterdir()) == []


def test_max_length_smaller_than_the_prompt(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    err = complaint(["compare", *without(tiny, "--max-length"), "--max-length=12", "--methods=lora", "--quiet"], capsys)
    assert "--max-length 12 is smaller than the prompt" in err
    assert tree(Path.cwd()) == set()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--max-length=12", "--max-length 12 is smaller than the prompt"),
        ("--max-length=100000", "positions; lower it to --max-length"),
        ("--max-length=160 --set=lora.target_modules=query", "named 'query'; there are"),
    ],
)
def test_a_dry_run_refuses_what_every_run_would_fail_on(
    flags: str, said: str, tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in complaint(["compare", *without(tiny, "--max-length"), *flags.split(), "--dry-run"], capsys)
    assert tree(Path.cwd()) == set()


def test_learning_rate_that_is_no_number(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for value in ("nan", "inf", "-1e-3", "0"):
        err = complaint(["train", "lora", *tiny, f"--learning-rate={value}"], capsys)
        assert "--learning-rate" in err
    assert "lora.learning_rate=nan" in complaint(["compare", *tiny, "--set=lora.learning_rate=nan"], capsys)


def test_misspelt_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "study.toml"
    study.write_text('[data]\nsource = "starter"\n[train]\nepoch = 2\n')
    err = complaint(["compare", str(study)], capsys)
    assert f"{study}, line 4" in err
    assert "did you mean `epochs`?" in err


def test_field_that_the_data_does_not_have(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    err = complaint(["compare", *tiny, "--instruction=Say the {aspect}.", "--quiet"], capsys)
    assert "{aspect}" in err
    assert tree(Path.cwd()) == set()


def test_unknown_tracker_and_outside_file(tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["--dry-run"]):
        assert "did you mean wandb?" in complaint(["compare", *tiny, "--report-to=wanbd", *more], capsys)
        assert "unknown executor 'locla'" in complaint(
            ["compare", *tiny, "--engine=locla", "--budget=1h", *more], capsys
        )
        budget = "--budget=1h"  # of which nothing is spent on a probe
        err = complaint(["compare", *tiny, "--engine=slurm:time=soon", budget, *more], capsys)
        assert "time=soon: a time such as 4h or 90m was expected" in err
        err = complaint(["compare", *tiny, "--engine=slurm:workers=2", "--workers=2", *more], capsys)
        assert "set the number of tasks: --engine slurm:workers=8" in err or "there is no sbatch" in err
        assert "one run at a time" in complaint(["compare", *tiny, "--report-to=wandb", "--workers=2", *more], capsys)
    assert main(["train", "lora", *tiny, "--report-to=none", "--dry-run"]) == 0
    assert main(["compare", *tiny, "--report-to=none", "--workers=2", "--dry-run"]) == 0
    capsys.readouterr()
    outputs = tmp_path / "outputs.jsonl"
    outputs.write_text('{"id": "d32", "text": "short"}\n')
    assert "7 of 8 test documents are missing" in complaint(["compare", *tiny, f"--predictions=api={outputs}"], capsys)
    assert tree(Path.cwd()) == set()


def test_what_is_no_study_and_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(tmp_path) in complaint(["report", str(tmp_path)], capsys)
    document = tmp_path / "document.txt"
    document.write_text("A text.")
    assert "record.json" in complaint(["summarize", str(tmp_path), str(document)], capsys)
    for command in (["report"], ["judge"], ["rescore"], ["diff", str(tmp_path)], ["summarize"]):
        err = complaint([*command, str(document)], capsys)
        assert f"{document}: a file, where a folder was expected" in err


def test_a_path_that_no_file_can_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "study.toml"
    for lines in ('train_file = "a\\u0000b.jsonl"', 'train_file = "a.jsonl"\ntest_file = "a\\u0000b.jsonl"'):
        study.write_text(f"[data]\n{lines}\n")
        assert "NUL" in complaint(["compare", str(study)], capsys)
    assert "~no-such-user" in complaint(["compare", "--train-file=~no-such-user/train.jsonl"], capsys)


def test_what_is_written_to_a_file_never_fails_on_a_character(tmp_path: Path) -> None:
    """Under a locale that has no word for them, as on Windows."""
    code = "from tuneoff.cli import guard; guard(lambda: print('\\u2212 \\U0001f40d \\ud800') or 0)"
    surroundings = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60, env=surroundings)
    assert done.stdout.decode() == "\u2212 \U0001f40d \\ud800" + os.linesep
    assert not done.stderr


def test_peft_types_have_their_hyperparameters_as_flags(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "peft:LOHA", *tiny, "--r", "4", "--rank_dropout=0.5", "--dry-run", "--json"]) == 0
    [run] = json.loads(capsys.readouterr().out)["runs"]
    values = run["spec"]["method"]["hyperparameters"]
    assert (values["r"], values["rank_dropout"]) == (4, 0.5)
    assert "no such type" in complaint(["train", "peft:LOHO", *tiny, "--r=4"], capsys)


one_process = pytest.mark.xdist_group("finished study")


@pytest.fixture(scope="module")
def study(tiny_model: Callable[[str], Path], tiny_data: dict[str, Path], tmp_path_factory) -> tuple[Path, list[str]]:
    """A finished study of two methods and the command that made it."""
    folder = tmp_path_factory.mktemp("study") / "made"
    command = [
        "compare",
        f"--model={tiny_model('gpt_neo')}",
        *(f"--{split}-file={path}" for split, path in tiny_data.items()),
        *("--max-length=128", "--max-new-tokens=8", "--max-steps=2", "--precision=fp32"),
        *("--methods=zero_shot,soft_prompt", f"--output={folder}", "--json"),
    ]
    assert main(command) == 0
    return folder, command


@one_process
def test_a_study_from_end_to_end(study: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    folder, command = study
    records = {path.name: (path / "record.json").stat().st_mtime_ns for path in planned_run_folders(folder)}
    assert len(records) == 2
    assert {"study.json", "plan.json", "data.json", "documents.jsonl", "summary.json", "report.html"} <= tree(folder)
    assert {f"baselines/{name}.jsonl" for name in ("LEAD-1", "LEAD-3", "oracle-1")} <= tree(folder)
    assert len(read_documents(folder)) == 8

    assert main(command) == 0  # the same command again does nothing twice
    out, err = capsys.readouterr()
    assert {path.name: (path / "record.json").stat().st_mtime_ns for path in planned_run_folders(folder)} == records
    assert "2 of them already done" in err
    summary = json.loads(out.splitlines()[-1])
    assert {row["name"] for row in summary["rows"]} >= {"zero_shot", "soft_prompt", "LEAD-1"}
    assert "ROUGE-1" in out
    assert summary == json.loads((folder / "summary.json").read_text())


@one_process
def test_a_different_study_may_not_use_the_folder(
    study: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, command = study
    before = tree(folder)
    err = complaint([*command, "--batch-size=3"], capsys)
    assert "train.batch_size: 8 -> 3" in err
    assert tree(folder) == before


@one_process
def test_a_fresh_study_is_next_to_the_one_that_is_there(
    study: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Also with other settings, which the folder would refuse; nothing in it is changed."""
    folder, command = study
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert main([*command, "--batch-size=3", "--fresh", "--dry-run"]) == 0
    printed = capsys.readouterr()
    plan = json.loads(printed.out)
    assert plan["folder"] == f"{folder}-2"
    assert f"to continue it, write --output {folder}-2 instead of --fresh" in printed.err
    assert not any(run["done"] for run in plan["runs"])
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@one_process
def test_a_finished_run_writes_more_texts(
    study: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = next(path for path in planned_run_folders(study[0]) if path.name.startswith("soft_prompt"))
    documents = {row.id: row.document for row in read_documents(study[0])}
    texts = {row.id: row.text for row in read_predictions(run)}
    file = tmp_path / "new.jsonl"
    file.write_text("".join(json.dumps({"id": key, "document": text}) + "\n" for key, text in documents.items()))
    assert main(["summarize", str(run), str(file), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["id"] for line in lines] == list(documents)
    assert {line["id"]: line["text"] for line in lines} == texts


@one_process
def test_a_run_that_cannot_be_used_is_told_before_a_model_loads(
    study: tuple[Path, list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tuneoff.models.load_model", lambda *_: pytest.fail("a model was loaded"))
    made = next(path for path in planned_run_folders(study[0]) if path.name.startswith("soft_prompt"))
    document = tmp_path / "document.txt"
    document.write_text("A text.")
    record = json.loads((made / "record.json").read_text())
    without = tmp_path / "without"
    without.mkdir()
    (without / "record.json").write_text(json.dumps(record))
    err = complaint(["summarize", str(without), str(document)], capsys)
    assert "artefact/adapter_config.json is missing" in err
    assert "copy artefact/" in err
    record["spec"]["prompt"]["instruction"] = "Say the {aspect}."
    (without / "record.json").write_text(json.dumps(record))
    assert "--field aspect=VALUE" in complaint(["summarize", str(without), str(document)], capsys)
    assert "artefact/" in complaint(["summarize", str(without), str(document), "--field", "aspect=goal"], capsys)
    assert "a device, where a regular file" in complaint(["summarize", str(made), os.devnull], capsys)


@one_process
def test_base_weights_that_were_exchanged_after_scoring_write_nothing(
    study: tuple[Path, list[str]],
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = next(path for path in planned_run_folders(study[0]) if path.name.startswith("soft_prompt"))
    run = shutil.copytree(made, tmp_path / "run")
    model = shutil.copytree(tiny_model("gpt_neo"), tmp_path / "model")
    (run / "manifest.json").unlink()  # without digests, the record may be changed
    record = json.loads((run / "record.json").read_text())
    record["spec"]["model"]["name"] = str(model)
    (run / "record.json").write_text(json.dumps(record))
    (tmp_path / "a.txt").write_text("A text.")
    command = ["summarize", str(run), str(tmp_path / "a.txt")]
    assert main(command) == 0
    capsys.readouterr()
    weights = model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    err = complaint(command, capsys)
    assert "are not those that this run was scored with" in err
    assert "restore that model, or run the study again" in err


@one_process
def test_a_field_that_leaves_no_room_is_told(
    study: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A document that is left out would give the summaries behind it to the wrong documents."""
    made = next(path for path in planned_run_folders(study[0]) if path.name.startswith("soft_prompt"))
    run = shutil.copytree(made, tmp_path / "run")
    (run / "manifest.json").unlink()  # without digests, the record may be changed
    record = json.loads((run / "record.json").read_text())
    record["spec"]["prompt"]["instruction"] = "Say the {aspect}."
    (run / "record.json").write_text(json.dumps(record))
    file = tmp_path / "new.jsonl"
    rows = [{"id": "long", "text": "A text.", "aspect": "goal " * 200}, {"text": "A text.", "aspect": "goal"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["summarize", str(run), str(file)]) == 3
    captured = capsys.readouterr()
    assert "document long: its fields leave no room" in captured.err
    assert captured.out.startswith("\n")  # line n belongs to document n
    assert captured.out.count("\n") == 2
    assert main(["summarize", str(run), str(file), "--field=aspect=goal", "--json"]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["id"], second["id"]) == ("long", "2")
    assert first["text"] == second["text"]


@one_process
def test_report_is_drawn_again(study: tuple[Path, list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    page = study[0] / "report.html"
    page.unlink()
    assert main(["report", str(study[0])]) == 0
    assert capsys.readouterr().out.strip() == str(page)
    assert page.stat().st_size > 10_000
    assert main(["report", str(study[0]), "--format", "latex"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("\\end{document}")
    assert complaint(["report", str(study[0]), "--format", "tex"], capsys).count("latex") == 1


@pytest.mark.slow
@one_process
def test_nothing_but_our_own_lines_is_on_stderr(study: tuple[Path, list[str]], tmp_path: Path) -> None:
    """Libraries warn and log when a model is loaded in this process; one of their warnings must not end it either."""
    (tmp_path / "text.txt").write_text("The cost of a method is what it takes to train it.")
    program = [sys.executable, "-c", "import sys; from tuneoff.cli import main; sys.exit(main())"]
    done = subprocess.run(
        [*program, "summarize", str(study[0]), str(tmp_path / "text.txt")],
        env={**os.environ, "PYTHONWARNINGS": "error", "TRANSFORMERS_VERBOSITY": "debug"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    (line,) = done.stderr.splitlines()
    assert (Path(line.rpartition(": ")[2]) / "record.json").is_file()  # which run writes, and why


def test_a_run_that_fails_leaves_the_others_and_no_texts_stay(
    tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    # Only PEFT itself knows the layers that its other adapters fit.
    methods = ["--methods=zero_shot,peft:LOHA", "--set=peft:LOHA.target_modules=nothing_like_it"]
    assert main(["compare", *tiny, *methods, "--no-texts", "--quiet", "--output=out"]) == 3
    out, err = capsys.readouterr()
    assert not out
    assert "nothing_like_it" in err
    assert err.count("\n") == 1
    study = Path("out")
    runs = {read_record(path).name: path for path in planned_run_folders(study)}
    assert {name: read_record(path).status for name, path in runs.items()} == {
        "zero_shot-s0": "finished",
        "peft-LOHA-s0": "failed",
    }
    documents = read_documents(study)
    assert len({row.group for row in documents}) == 8  # resampling draws groups
    assert {(row.document, row.references) for row in documents} == {("", ())}
    rows = read_predictions(runs["zero_shot-s0"])
    assert {row.text for row in rows} == {""}
    assert all(row.scores["rouge1"] is not None for row in rows)
    for path in study.rglob("*"):
        assert not (path.is_file() and b"a small model" in path.read_bytes()), path
    assert (study / "report.html").exists()


@pytest.mark.slow
def test_an_adapter_of_peft_goes_through_the_whole_program(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    flags = [
        "--methods=zero_shot,peft:LOHA",
        "--set=peft:LOHA.r=2",
        "--trials=1",
        "--max-steps=2",
        "--max-new-tokens=4",
    ]
    assert (
        main(
            [
                "compare",
                *without(tiny, "--max-new-tokens", "--max-steps"),
                *flags,
                "--quiet",
                "--output=out",
                "--workers=2",
            ]
        )
        == 0
    )
    assert not capsys.readouterr().err
    [final] = [path for path in planned_run_folders(Path("out")) if path.name.startswith("peft-LOHA-s0")]
    record = read_record(final)
    assert record.spec.method.hyperparameters["r"] == 2
    assert record.resources is not None
    assert record.resources.processes == 2
    timing = {
        path.name.split("-timing")[0]: read_record(path)
        for path in planned_run_folders(Path("out"))
        if "-timing-" in path.name
    }
    assert set(timing) == {"zero_shot", "peft-LOHA"}
    for alone in timing.values():
        assert alone.resources is not None
        assert alone.resources.processes == 1
        assert alone.scores == {}
        assert alone.details.test_examples is None
    assert len(timing["peft-LOHA"].curve.train) == 30
    summary = json.loads(Path("out/summary.json").read_text())
    assert [row["title"] for row in summary["rows"] if row["kind"] == "method"] == ["Zero-shot", "peft:LOHA"]
    [row] = [row for row in summary["rows"] if row["name"] == "peft:LOHA"]
    assert "timing run alone" in " ".join(row["notes"])
    resources = timing["peft-LOHA"].resources
    assert resources is not None
    train = resources.phases["train"]
    assert train.tokens is not None
    assert row["costs"]["tokens_per_second"]["value"] == pytest.approx(train.tokens / train.wall_seconds)


@pytest.mark.slow
def test_trials_and_shares_lead_to_a_verdict_on_both(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Trials, the refinement trial and final runs on every share, then the report; again: nothing to do."""
    flags = ["--methods=zero_shot,few_shot,lora", "--trials=2", "--fractions=0.5,1", "--seeds=2", "--search-at=full"]
    command = [
        "compare",
        *without(tiny, "--max-new-tokens", "--max-steps"),
        *flags,
        "--max-steps=2",
        "--max-new-tokens=6",
        "--no-texts",
        "--output=out",
    ]
    assert main(command) == 0
    capsys.readouterr()
    study = Path("out")
    records = {path.name: read_record(path) for path in planned_run_folders(study)}
    trials = [record for record in records.values() if record.spec.role == "trial"]
    assert len(trials) == 9
    for record in trials:  # no trial has read a test text
        assert record.scores == {}
        assert "generate" not in record.resources.phases  # type: ignore[union-attr]
        assert record.details.test_examples is None
    halves = [record for record in records.values() if record.spec.fraction == 0.5]
    assert {record.spec.method.name for record in halves} == {"few_shot", "lora"}
    assert {record.details.validation_examples for record in halves} == {4}
    searched = json.loads((study / "search.json").read_text())
    for cell in searched["cells"]:
        best = min(cell["trials"], key=lambda trial: trial["validation_loss"])
        assert cell["chosen"] == best["value"]
    summary = json.loads((study / "summary.json").read_text())
    assert {row["name"]: row["seeds"] for row in summary["rows"] if row["kind"] == "method"} == {
        "zero_shot": 1,
        "few_shot": 2,
        "lora": 2,
    }
    [sizes] = summary["data_sizes"]
    assert [point["examples"] for point in sizes["curves"][-1]["points"]] == [12, 16]  # 2 steps of 8 read 16 of 24
    page = (study / "report.html").read_text()
    assert "How much data" in page
    assert "How each setting was found" in page
    assert (study / "figures" / "data_sizes.png").exists()
    assert not list(study.rglob("shots.json"))  # they are texts of the training data
    before = {path: path.stat().st_mtime_ns for path in study.rglob("record.json")}
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in study.rglob("record.json")} == before


@pytest.mark.parametrize(
    ("status", "code"),
    [(["finished", "finished"], 0), (["finished", "failed"], 3), (["diverged", "interrupted"], 1), (["finished"], 0)],
)
def test_exit_codes_of_studies(status: list[str], code: int) -> None:
    spec = RunSpec(
        model=ModelSpec(), prompt=PromptSpec(), data=DataSpec(source="starter"), method=MethodSpec(name="full")
    )
    records = [Record(run_id="0", name="full-s0", status=each, spec=spec, started_at="") for each in status]
    runs = tuple(StoredRun(RunDir(Path(str(number))), record) for number, record in enumerate(records))
    stored = StoredStudy(StudyDir(Path()), None, PlanFile(), DataFile(), None, None, runs)
    summary = Summary(name="study", created_at="", tuneoff_version="", primary_metric="rouge1")
    assert Study(stored, summary).exit_code == code
    searched = SearchFile(cells=(SearchCell(model="starter", method="lora", hyperparameter="learning_rate"),))
    under_way = Study(replace(stored, search=searched), summary)
    assert under_way.exit_code == (code or 3), "a method whose trials did not end has no final run"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("wrong"), 2, "wrong"),
        (RunFailure("broken"), 1, "broken"),
        (OSError(28, "No space left on device", "disk/file"), 1, "disk/file: No space left"),
        (MemoryError(), 1, "memory ran out"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            1,
            "memory ran out",
        ),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), 1, "memory ran out"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "n" * 300), 2, f"{'n' * 60}...: too long"),
        (KeyboardInterrupt(), 130, "run the same command to continue"),
        (SystemExit(143), 143, "run the same command to continue"),
    ],
)
def test_what_ends_a_command_early(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        raise error

    assert guard(work) == code
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", stopping.NAMES)
def test_a_signal_unwinds_the_stack_and_is_said(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        os.kill(os.getpid(), getattr(signal, name))
        raise AssertionError(f"{name} was not heard")

    before = signal.getsignal(getattr(signal, name))
    try:
        assert guard(work) == stopping.EXIT_CODES[name]
    finally:
        signal.signal(getattr(signal, name), before)
    err = capsys.readouterr().err
    assert err.endswith("; run the same command to continue\n")
    assert err.count("\n") == 1


def test_a_bug_is_not_hidden() -> None:
    def work() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        guard(work)


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_a_command_that_is_stopped_says_how_to_go_on(
    stop: BaseException, code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*args: object, **kwargs: object) -> None:
        raise stop

    monkeypatch.setattr("tuneoff.cli.study.prepare", stopped)
    assert main(["compare", "--preset=starter", "--dry-run"]) == code
    assert "run the same command to continue" in capsys.readouterr().err


def test_the_home_folder_is_found_where_a_shell_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_home("~/made") == "/home/me/made"
    assert expand_home("--output=~/made") == "--output=/home/me/made"
    for other in ("a~/b", "--set=~", "~", "--instruction=about ~/x", "lora.x=~/y"):
        assert expand_home(other) == other


def test_a_study_in_the_home_folder(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["compare", *tiny, "--methods=zero_shot", "--output=~/made", "--dry-run"]) == 0
    assert f"folder {tmp_path / 'made'}" in capsys.readouterr().out
    assert str(tmp_path / "none") in complaint(["report", "~/none"], capsys)
    assert not Path("~").exists()


def test_a_folder_that_cannot_be_named_or_linked(
    tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "too long" in complaint(["compare", *tiny, "--methods=zero_shot", f"--output={'x' * 300}"], capsys)
    assert "too long" in complaint(["report", "x" * 300], capsys)
    (tmp_path / "link").symlink_to("nowhere")
    told = complaint(["compare", *tiny, "--methods=zero_shot", f"--output={tmp_path / 'link'}"], capsys)
    assert "is a link to what does not exist" in told


def test_a_python_without_docstrings_is_refused() -> None:
    code = "import sys; from tuneoff.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-OO", "-c", code, "methods"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "PYTHONOPTIMIZE=2" in done.stderr


def test_a_user_without_a_home_folder_is_told_to_set_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    assert "export HOME=" in complaint(["methods"], capsys)


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use cannot be deleted there")
def test_a_deleted_current_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)  # the fixture of all tests here goes back
    gone.rmdir()
    assert "the current folder was deleted" in complaint(["compare", "--preset=starter", "--dry-run"], capsys)
