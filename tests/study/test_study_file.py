"""A study file with its names and values checked against the registry of methods."""

from pathlib import Path

import pytest

from tuneoff.errors import UserError
from tuneoff.spec import GenerateSpec, StudySpec
from tuneoff.spec.toml import Override, presets
from tuneoff.study.study_file import check_study, parse_setting, read_study

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


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(TOML)
    return path


def complaint(tmp_path: Path, toml: str, *overrides: Override) -> str:
    path = tmp_path / "study.toml"
    path.write_text(toml)
    with pytest.raises(UserError) as caught:
        read_study(path, None, overrides)
    return str(caught.value)


def test_set_takes_precedence_over_the_file_key_by_key(study_file: Path) -> None:
    overrides = [parse_setting("lora.r=4"), parse_setting("lora.learning_rate=1e-3")]
    assert read_study(study_file, None, overrides).hyperparameters == {"lora": {"learning_rate": 1e-3, "r": 4}}


@pytest.mark.parametrize("times", [1, 10**6])
@pytest.mark.parametrize(
    ("path", "most"), [(("seeds",), 1000), (("generate", "num_beams"), 64), (("generate", "batch_size"), 4096)]
)
def test_more_than_a_study_may_ask_for_is_refused(
    study_file: Path, path: tuple[str, ...], most: int, times: int
) -> None:
    """Whether a stored study could have so much or not."""
    expected = f"--the-flag: `{path[-1]}` should be less than or equal to {most}, not {most * times + 1}"
    with pytest.raises(UserError) as caught:
        read_study(study_file, None, [Override(path, most * times + 1, "--the-flag")])
    assert str(caught.value) == expected
    read_study(study_file, None, [Override(path, most, "--the-flag")])


def test_more_than_a_study_may_ask_for_is_refused_from_python_too(study_file: Path) -> None:
    study = read_study(study_file)
    for change, said in (
        ({"seeds": 1001}, "study: `seeds` should be less than or equal to 1000, not 1001"),
        ({"generate": GenerateSpec(num_beams=100)}, "study: `num_beams` should be less than or equal to 64, not 100"),
    ):
        with pytest.raises(UserError, match=said):
            check_study(study.model_copy(update=change))


def test_presets_come_with_the_package_and_are_valid() -> None:
    assert {"starter", "coursework"} <= set(presets())
    for name in presets():
        assert read_study(None, name).name == name


def test_the_starter_preset_is_what_the_first_comparison_promises() -> None:
    study = read_study(None, "starter")
    assert study.methods == ("zero_shot", "soft_prompt", "lora", "full")
    assert study.data.max_train_documents is None
    assert study.data.max_test_documents is not None
    assert study.data.max_test_documents >= 50
    assert study.train.epochs >= 1
    assert not study.hyperparameters


def test_the_coursework_preset_is_unchanged() -> None:
    study = read_study(None, "coursework")
    assert study.models[0].name == "EleutherAI/gpt-neo-125m"
    assert (study.train.epochs, study.train.batch_size, study.prompt.max_length) == (10, 8, 512)
    assert (study.prompt.template, study.prompt.instruction, study.prompt.cue) == ("plain", "SUMMARIZE", "")
    assert {values["learning_rate"] for values in study.hyperparameters.values()} == {5e-5}
    assert study.hyperparameters["soft_prompt"]["initial_prompt"] == "SUMMARIZE"
    lora = study.hyperparameters["lora"]
    assert (lora["r"], lora["lora_alpha"], lora["lora_dropout"]) == (16, 32, 0.1)


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[data]\nsource = 'starter'\n\n[trian]\nepochs = 1\n", ["line 4", "`trian`", "did you mean `train`?"]),
        ("[data]\nsource = 'starter'\ntrain_fle = 'x'\n", ["line 3", "`train_fle`", "did you mean `train_file`?"]),
        ("data.source = 'starter'\ntrain.epochz = 1\n", ["line 2", "`epochz`", "did you mean `epochs`?"]),
        ("models = [{name = 'a/b', precison = 'fp32'}]\ndata.source = 'starter'\n", ["line 1", "`precison`"]),
        ("data.source = 'starter'\n[train]\n# effort\nepochs = nan\n", ["line 4", "`epochs`", "not nan"]),
        ("data.source = 'starter'\n[train]\nbatch_size = 0\n", ["line 3", "`batch_size`", "not 0"]),
        ("data.source = 'starter'\nmethods = ['lora', 'lora']\n", ["line 2", "twice"]),
        ("data.source = 'starter'\nmethods = ['loar']\n", ["line 2", "loar", "did you mean lora?"]),
        ("data.source = 'starter'\nhyperparameters.lora.rr = 3\n", ["line 2", "'rr'", "did you mean lora.r?"]),
        ("data.source = 'starter'\nhyperparameters.full.learning_rate = inf\n", ["line 2", "learning_rate", "inf"]),
        ("data.source = 'starter'\ntrain = 3\n", ["line 2", "[train]"]),
        ("name = 'x'\n", ["no data", "--train-file", "--preset starter"]),
        ("data.source = 'starter'\ndata.train_file = 'x'\n", ["keep one"]),
        ("data.source = 'starter'\npredictions = {'../x' = 'y'}\n", ["line 2", "../x"]),
        ("data.source = 'starter'\npredictions = {LEAD-1 = 'y'}\n", ["line 2", "LEAD-1"]),
        ("name = \n", ["not TOML", "line 1"]),
        ("data.source = 'starter'\nmodels = 'starter'\n", ["line 2", "`models` is a list"]),
        ("data.source = 'starter'\nmodels = [3]\n", ["line 2", "`models` is a list"]),
        ("data.source = 'starter'\nhyperparameters.lora.r = [1, 2]\n", ["line 2", "`r` should be a number", "[1, 2]"]),
        ("data.source = 'starter'\nsteps = {lroa = 100}\n", ["line 2", "lroa", "does not compare"]),
        ("data.source = 'starter'\nmetric = 'blue'\n", ["line 2", "no metric 'blue'", "use rouge1, rouge2"]),
        ("data.source = 'starter'\nsteps = {lora = 0}\n", ["line 2", "`lora`", "not 0"]),
    ],
)
def test_a_mistake_in_the_file_names_its_line(tmp_path: Path, toml: str, words: list[str]) -> None:
    message = complaint(tmp_path, toml)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (Override(("train", "epochs"), -1.0, "--epochs"), ["--epochs:", "greater than 0", "-1.0"]),
        (Override(("models", "*", "precision"), "fp8", "--precision"), ["--precision:", "bf16", "fp8"]),
        (Override(("methods",), ("lora", "zero"), "--methods"), ["--methods:", "did you mean zero_shot?"]),
        (Override(("metric",), "length", "--metric"), ["--metric: 'length'", "more is better", "rougeL"]),
        (parse_setting("lora.learning_rate=nan"), ["--set lora.learning_rate=nan", "above 0"]),
        (parse_setting("lora.learning_rate=-1"), ["--set lora.learning_rate=-1", "above 0"]),
        (parse_setting("full.learning_rate=1"), ["full is not among the methods", "zero_shot, lora"]),
        (parse_setting("lara.r=1"), ["--set lara.r=1", "did you mean lora?"]),
    ],
)
def test_a_mistake_in_a_flag_names_the_flag(tmp_path: Path, override: Override, words: list[str]) -> None:
    message = complaint(tmp_path, TOML, override)
    assert all(word in message for word in words), message


def test_a_metric_in_another_spelling_is_the_same_study(study_file: Path) -> None:
    def study(metric: str) -> StudySpec:
        return read_study(study_file, None, [Override(("metric",), metric, "--metric")])

    assert study("ROUGE-L") == study("rougeL") != study("rouge1")
    assert study("Rouge-1") == read_study(study_file), "such studies are stored as before"
    assert "metric" not in study("Rouge-1").model_dump()


def test_models_that_are_not_a_list_with_a_flag_for_every_model(tmp_path: Path) -> None:
    override = Override(("models", "*", "precision"), "fp32", "--precision")
    assert "`models` is a list" in complaint(tmp_path, "data.source = 'starter'\nmodels = 'starter'\n", override)


def test_hyperparameters_of_methods_that_do_not_run_are_left_out(study_file: Path) -> None:
    study = read_study(study_file, None, [Override(("methods",), ("zero_shot",), "--methods")])
    assert study.hyperparameters == {}


@pytest.mark.parametrize(
    ("text", "method", "path", "value"),
    [
        ("lora.r=8", None, ("lora", "r"), 8),
        ("lora.learning_rate=1e-3", None, ("lora", "learning_rate"), 1e-3),
        ("learning_rate=1e-3", "full", ("full", "learning_rate"), 1e-3),
        ("lora.target_modules=q_proj, v_proj", None, ("lora", "target_modules"), ("q_proj", "v_proj")),
        ("soft-prompt.initial_prompt=Say, it = so", None, ("soft_prompt", "initial_prompt"), "Say, it = so"),
        ("soft_prompt.initial_prompt=3", None, ("soft_prompt", "initial_prompt"), "3"),
        ("lora.r=many", None, ("lora", "r"), "many"),
    ],
)  # fmt: skip
def test_settings(text: str, method: str | None, path: tuple[str, str], value: object) -> None:
    override = parse_setting(text, method)
    assert override.path == ("hyperparameters", *path)
    assert override.value == value


@pytest.mark.parametrize("text", ["lora.r", "r=3", "=3", "lora.=3", ""])
def test_settings_without_the_right_form(text: str) -> None:
    with pytest.raises(UserError, match="should have the form"):
        parse_setting(text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"predictions": {"../../row": "outputs.jsonl"}}, "study: the row name '../../row'"),
        ({"predictions": {"lora": "outputs.jsonl"}}, "study: the row name 'lora' is already used"),
        ({"steps": {"full": 3}}, "study: `steps` names full"),
        ({"hyperparameters": {"lora": {"r": -1}}}, "lora.r = -1"),
    ],
)
def test_a_spec_from_python_is_checked_as_a_file_is(settings: dict[str, object], message: str) -> None:
    plain = {"data": {"source": "starter"}, "methods": ["zero_shot", "lora"]}
    with pytest.raises(UserError) as caught:
        check_study(StudySpec.model_validate(plain | settings))
    assert str(caught.value).startswith(message)
    assert check_study(StudySpec.model_validate(plain)) == StudySpec.model_validate(plain)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"fractions": (0.5, 1.0)}, "all folds use all the data"),
        ({"until_settled": True}, "the seeds of all folds are fixed"),
        ({"data": {"train_file": "x", "folds": 3, "test_share": 0.2}}, "each fold is the test split once"),
        ({"claims": ({"text": "a", "kind": "best_early", "methods": ("lora",)},)}, "claims about orders"),
    ],
)
def test_what_does_not_go_with_folds(more: dict[str, object], words: str) -> None:
    settings: dict[str, object] = {"data": {"train_file": "x", "folds": 3}, "methods": ("zero_shot", "lora")}
    check_study(StudySpec.model_validate(settings))
    with pytest.raises(UserError, match=f"with --folds 3, {words}"):
        check_study(StudySpec.model_validate(settings | more))
