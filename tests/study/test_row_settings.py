"""The rows of a study: one name each, complete settings, and nothing that would compare unlike efforts."""

from pathlib import Path

import pytest

from support.planned import HASHES, study_of
from tuneoff.errors import UserError
from tuneoff.spec import StudySpec
from tuneoff.spec.toml import Override
from tuneoff.study import planner
from tuneoff.study.study_file import check_study, parse_setting, read_study

HEAD = "[data]\nsource = 'starter'\n"


def read(tmp_path: Path, toml: str, *overrides: Override) -> StudySpec:
    path = tmp_path / "study.toml"
    path.write_text(toml)
    return read_study(path, None, overrides)


def rows(*names: str) -> Override:
    return Override(("methods",), names, "--methods")


def test_rows_have_what_the_study_sets_for_their_method(tmp_path: Path) -> None:
    toml = "methods = ['lora', 'lora@alpha=128@r=64', 'lora@small']\n" + HEAD + (
        "[hyperparameters.lora]\nlora_dropout = 0.0\n[hyperparameters.'lora@small']\nr = 4\nlora_dropout = 0.2\n"
    )  # fmt: skip
    study = read(tmp_path, toml)
    assert study.methods == ("lora", "lora@r=64@lora_alpha=128", "lora@small")
    built = {name: method.changed_hyperparameters for name, method in planner.build_methods(study).items()}
    assert built == {
        "lora": {"lora_dropout": 0.0},
        "lora@r=64@lora_alpha=128": {"lora_dropout": 0.0, "r": 64, "lora_alpha": 128},
        "lora@small": {"lora_dropout": 0.2, "r": 4},
    }
    assert check_study(study) == study  # as stored in study.json


def test_what_the_study_sets_for_a_method_holds_without_a_row_of_the_method_alone(tmp_path: Path) -> None:
    overrides = [rows("lora@r=8", "lora@r=64"), parse_setting("lora.learning_rate=1e-3")]
    study = read(tmp_path, "trials = 2\n" + HEAD, *overrides)
    rates = {method.hyperparameters["learning_rate"] for method in planner.build_methods(study).values()}
    assert rates == {1e-3}
    assert check_study(study) == study


def test_settings_of_a_row_are_set_by_its_name(tmp_path: Path) -> None:
    study = read(tmp_path, HEAD, rows("lora", "lora@small"), parse_setting("lora@small.target_modules=q_proj,v_proj"))
    assert study.hyperparameters["lora@small"] == {"target_modules": ("q_proj", "v_proj")}


def test_steps_and_claims_may_name_a_row_in_any_spelling(tmp_path: Path) -> None:
    toml = "methods = ['lora', 'lora@alpha=64@r=8']\nsteps = {'lora@r=8@lora_alpha=64' = 5}\n" + HEAD + (
        "[[claims]]\ntext = 'a'\nkind = 'better'\nmethods = ['lora@lora_alpha=64@r=8', 'lora']\n"
    )  # fmt: skip
    study = read(tmp_path, toml)
    assert list(study.steps) == ["lora@r=8@lora_alpha=64"]
    assert study.claims[0].methods == ("lora@r=8@lora_alpha=64", "lora")


@pytest.mark.parametrize(
    ("names", "toml", "words"),
    [
        (["lora", "lora@r=16"], "", "--methods: lora and lora@r=16 are the same after defaults"),
        (["lora@r=8", "lora@r=8.0"], "", "--methods: lora@r=8 is named twice"),
        (["lora@r=8@alpha=4", "lora@alpha=4@r=8"], "", "lora@r=8@lora_alpha=4 is named twice"),
        (["lora", "lora@rr=8"], "", "--methods: lora@rr=8: lora has no setting 'rr'"),
        (["lora", "lora@r=0"], "", "--methods: lora.r = 0: must be"),
        (["lora", "lora@small"], "", "--methods: lora@small has no settings, so it is lora; set them below"),
        (["lora@r-8", "lora@r=8"], "[hyperparameters.'lora@r-8']\nr = 4\n",
         "--methods: lora@r=8 has the same name in files as lora@r-8"),
        (["lora@r=8", "full"], "[hyperparameters.'lora@r=8']\nr = 4\n",
         "study.toml, line 4: lora@r=8 says r already; leave it out here"),
        (["lora@small", "full"], "[hyperparameters.'lora@small']\nrank = 4\n", "study.toml, line 4"),
    ],
)  # fmt: skip
def test_what_rows_cannot_be(tmp_path: Path, names: list[str], toml: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path, HEAD + toml, rows(*names))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("row", "searched"), [("lora@learning_rate=1e-3", "learning_rate"), ("few_shot@shots=4", "shots")]
)
def test_a_row_sets_nothing_that_trials_search(tmp_path: Path, row: str, searched: str) -> None:
    named = rows("zero_shot", row)
    assert len(read(tmp_path, HEAD, named).methods) == 2
    with pytest.raises(UserError, match=rf"--methods: \S+ sets {searched}, which trials search for every row; leave"):
        read(tmp_path, "trials = 3\n" + HEAD, named)


def test_a_row_of_another_row_that_the_study_lacks(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lora@small is not among the methods of this study"):
        read(tmp_path, HEAD, rows("lora", "full"), parse_setting("lora@small.r=4"))


def test_every_row_has_its_own_search_and_seeds() -> None:
    study = check_study(study_of(methods=("lora", "lora@r=64", "full"), trials=3, seeds=2))
    plan = planner.plan(study, HASHES, {})
    tried = {group.method: [trial.value for _, trial in group.tried] for group in plan.searches}
    assert tried["lora"] == tried["lora@r=64"]
    assert len(tried) == 3
    ranks = {run.spec.method.name: run.spec.method.hyperparameters["r"] for run in plan.runs if "lora" in run.name}
    assert ranks == {"lora": 16, "lora@r=64": 64}


def test_the_folders_of_a_row_have_plain_names_and_other_rows_keep_their_ids() -> None:
    alone = {run.name: run.run_id for run in planner.plan(check_study(study_of(methods=("lora",))), HASHES, {}).runs}
    both = check_study(study_of(methods=("lora", "lora@target_modules=q_proj+v_proj")))
    runs = {run.name: run.run_id for run in planner.plan(both, HASHES, {}).runs}
    assert list(runs) == ["lora-s0", "lora-target_modules-q_proj-v_proj-s0"]
    assert runs["lora-s0"] == alone["lora-s0"]
    assert len(set(runs.values())) == 2
