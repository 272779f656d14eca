"""tuneoff from Python: the snippet of the README, rows in memory, and what a notebook shows."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tuneoff as to
from tuneoff import api
from tuneoff.cli.flags import STUDY_FLAGS
from tuneoff.options import OPTION_PATHS, StudyOptions
from tuneoff.results.study_dir import StudyDir
from tuneoff.study.runner import Limits, prepare

pytestmark = pytest.mark.xdist_group("api")


@pytest.fixture(scope="module")
def options(tiny_model: Callable[[str], Path], tiny_data: dict[str, Path]) -> dict[str, Any]:
    """The keywords of a study that takes seconds."""
    files = {f"{split}_file": str(path) for split, path in tiny_data.items()}
    limits = {"max_length": 128, "max_new_tokens": 8, "max_steps": 2, "precision": "fp32"}
    return {"model": str(tiny_model("llama")), **files, **limits}


@pytest.fixture(scope="module")
def study(options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> to.Study:
    """A small study that was compared from Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        output = tmp_path_factory.mktemp("runs") / "mine"
        return to.compare(methods=["zero_shot", to.LoRA(r=4), "full"], seeds=2, output=output, **options)


def test_a_study_is_compared_and_read_again(study: to.Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert {record.spec.method.name for record in study.runs()} == {"zero_shot", "lora", "full"}
    assert {r.spec.method.hyperparameters["r"] for r in study.runs() if r.spec.method.name == "lora"} == {4}
    assert len(study.runs()) == 5
    assert study.exit_code == 0
    assert study.verdict.sentences
    assert str(study.verdict.too_small).startswith("Too small to tell: 8 test documents, ")
    assert study.verdict.best is None
    again = to.load_study(study.path)
    assert again.summary == study.summary
    assert capsys.readouterr() == ("", "")  # the functions print nothing


def test_studies_of_the_same_documents_are_judged_together(study: to.Study, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(study.path, copy)
    [verdict] = to.judge_together(study, copy)
    assert [one.method for one in verdict.methods] == ["zero_shot", "lora", "full"]
    for folders in ((study,), (study, study.path)):
        with pytest.raises(to.UserError, match="give two or more folders"):
            to.judge_together(*folders)
    StudyDir(copy).write_spec(study.spec.model_copy(update={"margin": 1.0}))
    with pytest.raises(to.UserError, match="mine and copy have no common verdict: their margins differ"):
        to.judge_together(study, copy)


def test_the_table_has_a_row_for_each_method_and_baseline(study: to.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = study.table()
    assert [*frame["name"][:3]] == ["zero_shot", "lora", "full"]
    assert {"LEAD-1", "oracle-1"} < set(frame["name"])
    assert frame.loc[frame["name"] == "full", "train_seconds"].item() > 0
    monkeypatch.setitem(sys.modules, "pandas", None)
    rows = study.table()
    assert isinstance(rows, list)
    assert [row["name"] for row in rows] == [*frame["name"]]
    zero_shot, lora, *others = study.summary.rows
    fewer = (zero_shot, lora.model_copy(update={"seeds": 5, "compared_seeds": 2}), *others)
    seen = dataclasses.replace(study, summary=study.summary.model_copy(update={"rows": fewer})).table()
    assert [row["seeds"] for row in seen[:3]] == [1, 2, 2], "those that the scores are means over"


def test_predictions_hold_every_text_of_the_final_runs(study: to.Study) -> None:
    frame = study.predictions()
    assert len(frame) == 5 * 8
    assert set(frame["method"]) == {"zero_shot", "lora", "full"}
    assert frame["text"].str.len().max() > 0


def test_other_metrics_and_margins(study: to.Study) -> None:
    verdict = study.judge(metric="rougeL", margin=1.0)
    assert (verdict.metric, verdict.margin) == ("rougeL", 1.0)
    assert to.judge(study.path, metric="rougeL", margin=1.0) == (verdict,)
    with pytest.raises(to.UserError, match="more is better"):
        study.judge(metric="repetition")
    for margin in (-1, float("nan")):
        with pytest.raises(to.UserError, match=r"margin=.*0 or more"):
            study.judge(margin=margin)


def test_charts_and_the_report(study: to.Study) -> None:
    assert study.plot("quality").to_dict()["config"]
    with pytest.raises(to.UserError, match="quality"):
        study.plot("qualty")
    page = study.report()
    assert page == study.path / "report.html"
    assert page.stat().st_size > 10_000


def test_the_winner_writes_what_its_run_wrote(study: to.Study) -> None:
    winner = study.winner
    documents = {document.id: document.document for document in study.stored.documents}
    wanted = winner.stored.predictions[:3]
    model = winner.load()
    assert model.generate([documents[row.id] for row in wanted]) == [row.text for row in wanted]
    with pytest.raises(to.UserError, match="takes a list"):
        model.generate("one document")


def test_an_interrupted_study_continues(study: to.Study, options: dict[str, Any]) -> None:
    """Nothing that is there is repeated: the records keep their times."""
    before = {record.run_id: record.finished_at for record in study.runs()}
    again = to.compare(methods=["zero_shot", to.LoRA(r=4), "full"], seeds=2, output=study.path, **options)
    assert {record.run_id: record.finished_at for record in again.runs()} == before


def test_documents_in_memory_are_the_same_study_as_documents_in_files(
    study: to.Study,
    options: dict[str, Any],
    tiny_data: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import pandas

    from tuneoff import api

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    rows = {
        split: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for split, path in tiny_data.items()
    }
    files = [f"{split}_file" for split in tiny_data]
    own = {name: value for name, value in options.items() if name not in files}
    for convert in (list, pandas.DataFrame):
        given = {split: convert(found) for split, found in rows.items()}
        spec = api._spec_of(None, None, ["zero_shot", to.LoRA(r=4), "full"], given, {**own, "seeds": 2})
        prepared = prepare(spec, tmp_path / "other", Limits())
        stored = {run.record.run_id for run in study.stored.runs}
        assert {run.run_id for run in prepared.plan.runs} == stored


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metod": 1}, "no setting 'metod'"),
        ({"epochs": -1}, r"epochs=: `epochs`"),
        ({"methods": ["lorra"]}, "did you mean lora"),
        ({"methods": "lora"}, r"methods=\['lora'\]"),
        ({"budget": "soon"}, "budget='soon'"),
        ({"budget": float("inf")}, "budget=inf"),
        ({"budget": "1h", "equal": "tme"}, "equal='tme'"),
        ({"workers": "2"}, "workers='2'"),
        ({"workers": 2, "report_to": ["wandb"]}, "one run at a time"),
        ({"budget": "1h", "report_to": "wanbd"}, "did you mean wandb"),
        ({"budget": "1h", "engine": "locla"}, "unknown executor 'locla'"),
        ({"methods": ["zero_shot", 3]}, "methods=: 3 is not a method"),
        ({"predictions": {"api": "missing.jsonl"}}, "missing.jsonl"),
        ({"predictions": {"lora": "missing.jsonl"}}, r"predictions\['lora'\]=: the row name"),
        ({"train_file": "missing.jsonl"}, "missing.jsonl"),
        ({"train": [{"document": "a b", "summary": "a"}]}, "both train and train_file"),
        ({"methods": to.LoRA}, r"methods=\[LoRA\]"),
        ({"methods": ["lora", to.LoRA(r=16)]}, "methods=: lora is named twice|a method is named twice"),
        ({"methods": ["lora", "lora@r=16"]}, "methods=: lora and lora@r=16 are the same after defaults"),
        ({"methods": {"full@large": to.LoRA(r=64)}}, r"methods=\{'full@large': ...\}: write lora@NAME"),
        ({"methods": {"lora": to.LoRA(r=4), "lora@large": to.LoRA(r=64)}}, r"methods=\{'lora': ...\}: write lora@NAME"),
        ({"model": None}, "model=None"),
        ({"fractions": "half"}, "fractions='half'"),
    ],
)
def test_mistakes_are_user_errors_before_anything_runs(
    arguments: dict[str, Any], message: str, options: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(to.UserError, match=message):
        to.compare(**{"output": tmp_path / "study", **options, **arguments})
    assert not (tmp_path / "study").exists()


def test_several_settings_of_a_method_are_rows() -> None:
    def rows(methods: Any) -> dict[str, dict[str, Any]]:
        spec = api._spec_of(None, None, methods, {}, {"data": "starter"})
        return {name: dict(spec.hyperparameters.get(name, {})) for name in spec.methods}

    assert rows([to.LoRA(r=64)]) == {"lora": {"r": 64}}  # alone, as before
    targets = to.LoRA(r=64, target_modules=("q_proj", "v_proj"))
    assert list(rows([to.LoRA, targets, "full"])) == ["lora", "lora@r=64@target_modules=q_proj+v_proj", "full"]
    assert rows([to.LoRA(r=8), "lora@rank=4"]) == {"lora@r=8": {"r": 8}, "lora@r=4": {"r": 4}}
    named = rows({"lora@narrow": to.LoRA(r=4), "lora": to.LoRA, "soft_prompt": to.SoftPrompt(num_virtual_tokens=7)})
    assert named == {"lora@narrow": {"r": 4}, "lora": {}, "soft_prompt": {"num_virtual_tokens": 7}}


def test_a_spec_that_was_read_somewhere_cannot_allow_code(tmp_path: Path) -> None:
    """`compare(load_study(folder).spec)` must not run what the folder of a stranger asks for."""
    models = [{"name": str(tmp_path), "trust_remote_code": True}]
    spec = to.StudySpec.model_validate({"name": "s", "models": models, "data": {"train_file": "missing.jsonl"}})
    with pytest.raises(to.UserError, match=r"cannot allow code.*; give compare\(\.\.\., trust_remote_code=True\) too"):
        to.compare(spec, output=tmp_path / "study")
    with pytest.raises(to.UserError, match=r"missing\.jsonl"):
        to.compare(spec, trust_remote_code=True, output=tmp_path / "study")


def test_no_tracker_allows_concurrent_runs_and_progress_is_shown(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Paths, one fraction and outputs of another system are taken as they are."""
    outputs = tmp_path / "outputs.jsonl"
    outputs.write_text("".join(json.dumps({"id": f"d{32 + index}", "text": "words"}) + "\n" for index in range(8)))
    monkeypatch.setattr("tuneoff.study.runner.usable_cores", lambda: 2)
    study = to.compare(
        **{**options, "model": Path(options["model"])},
        methods=["zero_shot"],
        predictions={"api": outputs},
        fractions=1.0,
        workers=2,
        report_to=["none"],
        progress=True,
        output=tmp_path / "study",
    )
    assert study.complete
    assert {"zero_shot", "api"} < {row.name for row in study.summary.rows}
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "zero_shot-s0: finished" in shown.err
    run = next(iter(study.stored.runs))
    (run.dir.path / "record.json").unlink()
    with pytest.raises(to.UserError, match=r"record\.json: missing; run the same command again"):
        to.load_study(study.path)


def test_a_folder_without_a_study(tmp_path: Path) -> None:
    with pytest.raises(to.UserError, match=r"no study\.json"):
        to.load_study(tmp_path)


def test_keywords_are_the_flags_of_the_command_line() -> None:
    assert set(OPTION_PATHS) == {flag.parameter for flag in STUDY_FLAGS}
    assert set(StudyOptions.__annotations__) == set(OPTION_PATHS)


def test_every_public_name_exists() -> None:
    for name in to.__all__:
        assert getattr(to, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = to.nothing


def test_methods_have_a_class_each() -> None:
    """Whatever the registry holds can be imported from the package."""
    for kind in to.METHODS.values():
        assert getattr(to, kind.__name__) is kind


def test_the_import_is_fast_and_loads_nothing_slow() -> None:
    code = "import time; began = time.perf_counter(); import tuneoff; took = time.perf_counter() - began; import sys; "
    code += "print(took, *{name.partition('.')[0] for name in sys.modules})"
    best = None
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        took, *loaded = done.stdout.split()
        assert {"torch", "transformers", "numpy", "pydantic"} & set(loaded) == set()
        best = min(float(took), best or 1e9)
    assert best is not None
    assert best < 0.2


def test_a_study_in_a_notebook_shows_table_and_verdict(study: to.Study) -> None:
    page = study._repr_html_()
    assert page.count("<tr>") == len(study.summary.rows) + 1
    assert study.verdict.sentences[0].partition(" ")[0] in page
    hostile = study.summary.model_copy(update={"name": "<script>alert(1)</script>"})
    assert "<script" not in to.Study(study.stored, hostile)._repr_html_()


@pytest.mark.slow
def test_a_notebook_runs_from_top_to_bottom(options: dict[str, Any], tmp_path: Path) -> None:
    """In a real kernel: the bar of `compare` and the table of a study are shown as HTML."""
    import nbformat
    from nbclient import NotebookClient

    cells = [
        "import tuneoff as to",
        f"study = to.compare(methods=['zero_shot', 'lora'], output='mine', **{options!r})",
        "study",
        "study.plot('quality')",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    shown = [json.dumps([output.get("data", {}) for output in cell.outputs]) for cell in notebook.cells]
    assert re.search(r"2 runs ended", shown[1])
    assert "<table>" in shown[2]
    assert "ROUGE-1" in shown[2]
    assert "vega" in shown[3]
    assert len(StudyDir(tmp_path / "mine").load().runs) == 2
