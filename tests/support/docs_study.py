"""A folder with the files and studies that the docs name, and how a command of the docs is carried out there.

Models and studies are tiny. What a command is given besides is said here, and nowhere else.
"""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from support.docs_commands import DOCS, ROOT
from support.fake_slurm import fake_slurm
from tiny import example_row, sentence
from tuneoff.cli import main
from tuneoff.local_page import LocalPage
from tuneoff.results.study_state import Speed
from tuneoff.spec import StudySpec
from tuneoff.study import speed_probe

# What can be carried out here. `starter` installs packages.
PROGRAMS = r"(?:[A-Z_]+=\S+ )*(?:cat \S+ \| )?(?:(?:\.venv/bin/)?tuneoff (?!starter\b)|python (?:scripts|benches)/)"

MODEL = "./my-model"
SMALL = ["--max-steps=2", "--max-length=128", "--max-new-tokens=8", "--precision=fp32"]
ROWS = ["--methods=lora,lora@r=64", "--train-file=train.jsonl", "--validation-file=val.jsonl", "--test-file=test.jsonl"]
STUDIES = ("emails", "mine", "a", "b", "paper", "cluster")
_SCORES = Path(__file__).parents[1] / "fixtures" / "scores"

# Words of the docs -> what is typed here. Those in capital letters are placeholders of sentences.
WORDS = {
    "HuggingFaceTB/SmolLM2-135M": MODEL,
    "runs/starter/runs/lora-s0-<id>": "runs/starter/runs/lora-s0-*",
    "DIR": "runs/mine",
    "STUDY": "runs/mine",
    "FORM": "merged",
    "NAME": "lora",
    "X": "1",
}
# The programs of `benches/` and `scripts/`, with as little work as they take.
LESS = {
    r"--studies \d+": "--studies 2",
    r"--max_steps \d+": "--max_steps 2 --max_length 128 --max_new_tokens 8",
    r"--preset starter": f"--model_name {MODEL} --train_file train.jsonl --validation_file val.jsonl"
    " --test_file test.jsonl",
}


def write_named_files(folder: Path) -> None:
    """Everything that the docs name, except for the model and studies."""
    for name in ("emails.csv", "answers.csv"):
        (folder / "docs").mkdir(exist_ok=True)
        shutil.copy(DOCS / name, folder / "docs")
    shutil.copy(DOCS / "emails.csv", folder)
    rows = [example_row(index) | {"aspect": ("challenge", "approach", "outcome")[index % 3]} for index in range(140)]
    for name, part in {
        "train": rows[:90],
        "all": rows[:90],
        "val": rows[90:110],
        "test": rows[110:],
    }.items():
        _write_rows(folder / f"{name}.jsonl", part)
    _write_rows(folder / "outputs.jsonl", [{"id": row["id"], "text": sentence(1, 5)} for row in rows[110:]])
    for name, column, part in (
        ("papers_train", "document", rows[:90]),
        ("papers_dev", "document", rows[90:110]),
        ("papers_test", "document", rows[110:]),
        ("more", "document", rows[:2]),
        ("inbox", "body", rows[:2]),
    ):
        lines = [f"{column},summary", *(f'"{row["document"]}","{row["summary"]}"' for row in part)]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    (folder / "papers").mkdir()
    for name in ("paper.txt", "papers/one.txt", "papers/two.txt", "new.txt", "new_email.txt"):
        (folder / name).write_text("My order arrived without the charger. Can you send one?")
    _write_scores(folder)


def _write_rows(path: Path, rows: Sequence[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_scores(folder: Path) -> None:
    """What other programs have scored."""
    shutil.copytree(_SCORES / "inspect", folder / "logs", ignore=shutil.ignore_patterns("*.json"))
    poor, good = sorted((_SCORES / "lm_eval" / "out").iterdir())
    for name, system in {
        "out/model_a": poor,
        "out/model_b": good,
        "s0": poor,
        "s1": poor,
        "t0": good,
        "t1": good,
    }.items():
        shutil.copytree(system, folder / name)
    for name, step in (("a", 3), ("b", 2)):
        rows = "".join(f"{item},{int(item % step == 0)}\n" for item in range(30))
        (folder / f"{name}.csv").write_text(f"item,score\n{rows}")
    (folder / "results").mkdir()
    for name, right in (("lora", 700), ("ia3", 690)):
        tested = {"step": 500, "test accuracy": right / 1319}  # questions of GSM8K's test split
        content = {
            "run_info": {"experiment_name": name, "train_config": {"model_id": "org/base", "seed": 0}},
            "train_info": {
                "cuda_memory_max": 10,
                "train_time": 5.0,
                "file_size": 1,
                "status": "success",
                "metrics": [tested],
            },
            "meta_info": {},
        }
        (folder / "results" / f"{name}.json").write_text(json.dumps(content))


def make_studies(model: Path) -> None:
    """In the current folder, with two settings of LoRA: one on texts with a field, and one without, in several copies.

    Also the stored studies of the repository: links to one copy, because they are large.
    """
    field = "--instruction=Summarize the {aspect} of this text."
    for name, more in (("starter", [field]), ("emails", [])):
        assert main(["compare", f"--model={model}", *ROWS, *SMALL, *more, f"--output=runs/{name}"]) == 0
    for name in STUDIES[1:]:
        shutil.copytree("runs/emails", f"runs/{name}")
    for name in ("scitldr_a", "coursework"):
        copy = Path("../stored", name).absolute()
        shutil.copytree(ROOT / "results" / name, copy)
        Path("results", name).symlink_to(copy)


def typed_here(command: str) -> list[str]:
    """The words of a command of `tuneoff`, as they are typed here: tiny, and of studies only the plan."""
    words = [WORDS.get(word, word) for word in shlex.split(command)]
    name, given = words[0], " ".join(words)
    if "--help" in words:
        return words
    if name == "summarize" and words[1].startswith("--"):  # a sentence names only the flag
        words[1:1] = ["runs/mine", "new.txt"]
    if name in ("compare", "check", "train", "init"):
        while words.count(MODEL) > 1:  # two models of the docs are one here
            del words[words.index(MODEL) - 1 : words.index(MODEL) + 1]
        words += [] if MODEL in words else [f"--model={MODEL}"]
    if name == "compare":
        words += [] if "--dry-run" in words else ["--dry-run"]
        words += [] if re.search(r"--train-file|--preset|\.(csv|toml)\b", given) else ["--train-file=train.jsonl"]
        if "emails.csv" in given and "--document-column" not in given:
            words += ["--document-column=email", "--summary-column=subject"]
        if "--predictions" in given:  # which are of these documents
            words += ["--test-file=test.jsonl"]
    if name == "init":
        Path("study.toml").unlink(missing_ok=True)
    if name == "train":
        words += [*SMALL, f"--output=trained/{words[1].partition(':')[2] or words[1]}"]
    return words


def run_as_typed(command: str) -> int:
    """Carry out a command line of the docs in the current folder, and return its exit code.

    `tuneoff` runs in this process, and other programs, which are in Python, in one of their own.
    """
    variables: list[tuple[str, str]] = re.findall(r"(?<!\S)([A-Z_]+)=(\S+) ", command)
    command = re.sub(r"(?<!\S)[A-Z_]+=\S+ ", "", command)
    piped = re.match(r"cat (\S+) \| ", command)
    program, _, rest = command.removeprefix(piped[0] if piped else "").partition(" ")
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        for name, value in variables:
            patch.setenv(name, value)
        patch.setattr(LocalPage, "serve", _interrupted)
        patch.setattr(speed_probe, "measure_speeds", _measured)
        if "--engine slurm" in rest:
            stack.enter_context(fake_slurm(Path("scheduler").absolute()))
        if piped:
            patch.setattr("sys.stdin", stack.enter_context(Path(piped[1]).open(encoding="utf-8")))
        if Path(program).name == "tuneoff":
            return main(list(_expanded(typed_here(rest))))
        for typed, less in LESS.items():
            rest = re.sub(typed, less, rest)
        script, *words = shlex.split(rest)
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        return subprocess.run([sys.executable, str(ROOT / script), *words], env=environment, check=False).returncode


def _interrupted(page: LocalPage) -> None:
    """A page is shown until Ctrl-C."""
    page._server.server_close()
    raise KeyboardInterrupt


def _measured(study: StudySpec, *_: object) -> dict[tuple[str, str], Speed]:
    """What a probe of each method for some seconds would find."""
    models = [model.name for model in study.models]
    return {(model, row): Speed(start=1, step=1, check=1, write=1) for model in models for row in study.methods}


def _expanded(words: Sequence[str]) -> Iterator[str]:
    """Patterns of files become names, as the shell does it."""
    for word in words:
        found = sorted(map(str, Path().glob(word))) if re.search(r"\*(\.json)?$", word) else []
        yield from found or [word]
