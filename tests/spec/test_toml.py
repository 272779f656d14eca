"""From TOML and flags to a study: precedence, places in messages, hints."""

import os
from pathlib import Path

import pytest

from tuneoff.confined import ProcessLimits
from tuneoff.errors import UserError
from tuneoff.spec import StudySpec, toml
from tuneoff.spec.toml import Override, line_of, presets, read_toml

TOML = """# a study
name = "mine"
models = ["starter"]
methods = ["zero_shot", "lora"]

[data]
source = "starter"

[train]
epochs = 3
batch_size = 4

[hyperparameters.lora]
learning_rate = 2e-3
"""


def read(file: Path | None = None, *overrides: Override) -> StudySpec:
    return read_toml(file, None, overrides).spec


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(TOML)
    return path


def test_file_over_defaults_and_flags_over_the_file(study_file: Path) -> None:
    study = read(study_file, Override(("train", "epochs"), 1.0, "--epochs"))
    assert study.train.epochs == 1.0  # flag
    assert study.train.batch_size == 4  # file
    assert study.train.warmup == 0.06  # default
    assert study.hyperparameters == {"lora": {"learning_rate": 2e-3}}


def test_files_on_the_command_line_replace_the_source_of_the_study(study_file: Path) -> None:
    data = read(study_file, Override(("data", "train_file"), "x.jsonl", "--train-file")).data
    assert (data.source, data.train_file) == (None, "x.jsonl")


def test_a_source_on_the_command_line_replaces_the_files_of_the_study(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text('[data]\ntrain_file = "a.jsonl"\ntest_file = "b.jsonl"\nsummary_column = "c"\nsplit_seed = 3\n')
    data = read(path, Override(("data", "source"), "owner/name", "--data")).data
    assert (data.source, data.train_file, data.test_file) == ("owner/name", None, None)
    assert (data.summary_column, data.split_seed) == (None, 3)


def test_relative_files_belong_to_the_study_file(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(
        'models = ["tiny", "owner/hub"]\n[data]\ntrain_file = "a.jsonl"\n[predictions]\napi = "api.jsonl"\n'
    )
    (tmp_path / "tiny").mkdir()
    study = read(path)
    assert study.data.train_file == str(tmp_path / "a.jsonl")
    assert study.predictions == {"api": str(tmp_path / "api.jsonl")}
    assert [model.name for model in study.models] == [str(tmp_path / "tiny"), "owner/hub"]


def test_a_tilde_in_a_study_file_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    path = tmp_path / "study.toml"
    path.write_text('[data]\ntrain_file = "~/a.jsonl"\ntest_file = ["~/b.jsonl", "~c.jsonl"]\n')
    data = read(path).data
    assert data.train_file == str(tmp_path / "me" / "a.jsonl")
    assert data.test_file == (str(tmp_path / "me" / "b.jsonl"), str(tmp_path / "~c.jsonl"))


def test_a_flag_for_every_model_reaches_every_model() -> None:
    overrides = [
        Override(("models", "*", "precision"), "fp32", "--precision"),
        Override(("models",), [{"name": "a/b"}, {"name": "c/d"}], "--model"),
        Override(("data", "source"), "starter", "--data"),
    ]
    study = read(None, *overrides)
    assert [(model.name, model.precision) for model in study.models] == [("a/b", "fp32"), ("c/d", "fp32")]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"source": "owner/some-set"}, "some-set"),
        ({"train_file": "folder/train.jsonl"}, "folder"),
        ({"train_file": "folder/my notes.csv"}, "my-notes"),
        ({"train_file": "folder/..jsonl"}, "study"),
    ],
)
def test_a_study_is_named_after_its_data(data: dict[str, str], name: str) -> None:
    assert read(None, *[Override(("data", key), value, "") for key, value in data.items()]).name == name


def test_lines_behind_multi_line_values() -> None:
    text = 'a = """\n[train]\nepochs = 1\n"""\nb = [\n 1,\n 2,\n]\n\n# note\n[train]\nepochs = 2\n'
    assert line_of(text, ("train",)) == 11
    assert line_of(text, ("train", "epochs")) == 12
    assert line_of(text, ("b",)) == 5
    assert line_of(text, ("c",)) is None


def test_what_is_no_study_file(tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, words in (
        (tmp_path / "none.toml", "no such study file"),
        (binary, "not UTF-8"),
        (tmp_path, "a folder, where"),
    ):
        with pytest.raises(UserError, match=words):
            read_toml(path)
    with pytest.raises(UserError, match=r"`starter`\?"):
        read_toml(None, "startr")
    with pytest.raises(UserError, match="keep one"):
        read_toml(binary, "starter")


@pytest.mark.parametrize("value", ["true", "1", '"yes"'])
def test_a_study_file_cannot_allow_code(tmp_path: Path, value: str) -> None:
    path = tmp_path / "stranger.toml"
    path.write_text(
        f'{TOML.replace("models", "seeds = 1 # models")}\n[[models]]\nname = "m"\ntrust_remote_code = {value}'
    )
    with pytest.raises(UserError, match=r"line 18: a study file cannot allow code.*type --trust-remote-code if you"):
        read_toml(path)
    trust = Override(("models", "*", "trust_remote_code"), True, "--trust-remote-code")
    assert read(path, trust).models[0].trust_remote_code
    assert not read(path, Override(("models",), [{"name": "other"}], "--model")).models[0].trust_remote_code


@pytest.mark.parametrize("text", ["a = " + "[" * 5_000 + "]" * 5_000, "a = " + "9" * 10_000, "#" + "x" * 2_000_000])
def test_a_study_file_beyond_reason_is_one_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "study.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"study\.toml: (not TOML|larger than)"):
        read_toml(path)


def test_a_pipe_is_no_study_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "study.toml")
    with pytest.raises(UserError, match="a named pipe"):
        read_toml(tmp_path / "study.toml")


def test_a_setting_knows_where_it_comes_from(study_file: Path) -> None:
    sourced = read_toml(study_file, None, [Override(("train", "epochs"), 1.0, "--epochs")])
    assert sourced.name == str(study_file)
    assert sourced.place(("train", "epochs")) == "--epochs"
    assert sourced.place(("train", "batch_size")) == f"{study_file}, line 11"
    assert sourced.place(("train", "warmup")) == "study"
    assert read_toml(None, None, [Override(("data", "source"), "starter", "--data")]).name == "study"


def test_names_of_methods_are_not_checked_here(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text("methods = ['of another package']\ndata.source = 'starter'\n")
    assert read(path).methods == ("of another package",)
    assert {"starter", "coursework"} <= set(presets())


def test_a_study_with_looks_needs_more_seeds_than_the_first_look(study_file: Path) -> None:
    switch = Override(("until_settled",), True, "--until-settled")
    assert read(study_file, switch).looks == (3, 4, 5, 6)
    with pytest.raises(UserError, match=r"judged after 3 seeds first, so it needs more than 3, not 2: --seeds 6"):
        read(study_file, switch, Override(("seeds",), 2, "--seeds"))


def test_a_file_that_takes_far_longer_to_read_than_a_study_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toml, "_READING", ProcessLimits(10**9, 1, 60, 1000))
    path = tmp_path / "study.toml"
    path.write_text("a" + ".a" * 100_000 + " = 1\n")
    with pytest.raises(UserError, match=r"study\.toml: needs more than 1 s of computing to be read"):
        read(path)


def test_an_integer_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text("seeds = 0x" + "f" * 10_000)
    with pytest.raises(UserError, match="an integer of more than 64 bits"):
        read(path)
