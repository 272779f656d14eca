"""One RunSpec in, one Record out, on a tiny model."""

import dataclasses
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import types
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tuneoff import data, metrics, models, prompts, run, stopping
from tuneoff.data import load_dataset, starter_present
from tuneoff.engine import generation, precision
from tuneoff.engine.checkpoint import Checkpoints
from tuneoff.engine.generation import NotFinite, generate
from tuneoff.engine.kernels import packed_layers
from tuneoff.engine.precision import choose_dtype
from tuneoff.engine.trainer import Trainer
from tuneoff.errors import UserError
from tuneoff.methods import METHODS, defaults
from tuneoff.results.events import Finished, StepDone, read_events
from tuneoff.results.run_dir import RunDir, StoredRun
from tuneoff.results.run_record import Artefact, EmbeddingPosition, Record
from tuneoff.spec import DataSpec, GenerateSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec, ScoreSpec, TrainSpec

pytestmark = pytest.mark.usefixtures("several_threads")


def spec_of(name, model, data, **train):
    return RunSpec(
        model=ModelSpec(name=str(model), precision="fp32"),
        prompt=PromptSpec(max_length=160),
        data=DataSpec(
            train_file=str(data["train"]), validation_file=str(data["validation"]), test_file=str(data["test"])
        ),
        method=MethodSpec(name=name, hyperparameters=defaults(name)),
        train=TrainSpec(**{"max_steps": 3, **train}),
        generate=GenerateSpec(max_new_tokens=8, batch_size=3),
        reserved_tokens=20,
    )


@pytest.mark.parametrize("writes", [False, True])
def test_a_trial_reads_no_test_example_and_writes_texts_only_where_they_choose(writes, tiny_model, tiny_data, tmp_path):
    spec = spec_of("lora", tiny_model("llama"), tiny_data)
    trial = spec.model_copy(update={"role": "trial", "writes_validation": writes})
    record = run.run(trial, tmp_path, "id", "name")
    assert record.status == "finished"
    assert record.artefact is None
    rows = {json.loads(line)["id"] for line in tiny_data["validation"].read_text().splitlines()}
    assert {row.id for row in RunDir(tmp_path).read_predictions()} == (rows if writes else set())
    assert ("rouge1" in record.scores) is writes


def load_adapted(folder):
    run_dir = RunDir(folder)
    return run.load_adapted(StoredRun(run_dir, run_dir.read_record()))


@pytest.mark.parametrize("name", METHODS)
def test_a_run_leaves_everything_it_promises(name, tiny_model, tiny_data, tmp_path):
    spec = spec_of(name, tiny_model("gpt_neo"), tiny_data)  # it has biases, which BitFit needs
    record = run.run(spec, tmp_path, "id", "name")
    assert record.failure is None
    assert RunDir(tmp_path).read_record() == record
    assert record.status == "finished"
    trains = METHODS[name].trains
    assert len(record.curve.train) == (3 if trains else 0)
    assert record.curve.best_validation_loss == pytest.approx(min(point.loss for point in record.curve.validation))
    predictions = RunDir(tmp_path).read_predictions()
    assert [row.id for row in predictions] == [example.id for example in load_dataset(spec.data).test]
    scores = [score for row in predictions if (score := row.scores["rouge1"]) is not None]
    assert record.scores["rouge1"] == pytest.approx(sum(scores) / len(predictions))
    files = [path for path in (tmp_path / "artefact").rglob("*") if path.is_file()]
    assert record.artefact is not None
    assert record.artefact.bytes == sum(path.stat().st_size for path in files)
    assert record.trainable_parameters is not None
    assert (record.trainable_parameters > 0) == trains
    assert record.resources is not None
    assert {"load", "generate", "evaluate"} <= set(record.resources.phases)
    assert record.provenance.model is not None
    assert record.provenance.model.content_hash == models.model_content_hash(spec.model)
    events = read_events(tmp_path / "events.jsonl")
    assert sum(isinstance(event, StepDone) for event in events) == len(record.curve.train)
    assert events[-1] == Finished(status="finished")
    # The folder alone is enough to use the result: the same documents give the same texts.
    documents = load_dataset(spec.data).test
    assert [new.text for new in load_adapted(tmp_path).write(documents)] == [row.text for row in predictions]


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("name", [name for name in METHODS if name != "bitfit"])  # Llama has no biases
def test_packed_layers_give_the_losses_and_texts_of_other_kernels(
    name, precision, tiny_model, tiny_data, tmp_path, monkeypatch
):
    """For a model of their widths. Dropout is off: its masks are other draws."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    if not packed_layers.are_usable(dtype):
        pytest.skip(f"this processor has no fast {precision}")
    spec = spec_of(name, tiny_model("wide_llama"), tiny_data, max_steps=6)
    settings = spec.method.hyperparameters | ({"lora_dropout": 0.0} if "lora_dropout" in defaults(name) else {})
    changes = {
        "model": spec.model.model_copy(update={"precision": precision}),
        "method": MethodSpec(name=name, hyperparameters=settings),
    }
    records, texts = [], []
    for kernels in ("packed", "others"):
        if kernels == "others":
            monkeypatch.setattr(packed_layers, "_compiled_kernels", dict)
        folder = tmp_path / kernels
        record = run.run(spec.model_copy(update=changes), folder, "id", "name")
        assert record.failure is None
        assert (record.details.kernels in packed_layers.UNITS[dtype]) is (kernels == "packed")
        records.append(record)
        texts.append({row.id: row.text for row in RunDir(folder).read_predictions()})
    losses = [record.curve.best_validation_loss for record in records]
    assert losses[0] == pytest.approx(
        losses[1], rel=0.005 if precision == "bf16" else 1e-4
    )  # Adam divides by gradients near 0
    same = sum(texts[0][document] == text for document, text in texts[1].items())
    assert same >= 0.5 * len(texts[0])  # of a random model, tokens are often near ties


def test_texts_are_scored_by_the_words_that_were_asked_for(tiny_model, tiny_data, tmp_path):
    spec = spec_of("zero_shot", tiny_model("gpt_neo"), tiny_data)
    asked = spec.model_copy(update={"score": ScoreSpec(words="characters")})
    english, characters = (run.run(each, tmp_path / each.score.words, "id", "name") for each in (spec, asked))
    assert "|words:characters|" in str(characters.signature)
    assert english.signature is not None
    assert "words" not in english.signature
    # Random texts have more letters in common than words.
    assert (characters.scores["rouge1"] or 0) > (english.scores["rouge1"] or 0)
    assert characters.scores["length"] == english.scores["length"]


def test_a_run_without_texts_writes_none(tiny_model, tiny_data, tmp_path):
    """The process of the run withholds them: nothing has to be removed afterwards."""
    spec = spec_of("few_shot", tiny_model("llama"), tiny_data)
    whole = run.run(spec, tmp_path / "whole", "id", "name")
    texts = [row.text for row in RunDir(tmp_path / "whole").read_predictions()]
    assert any(texts)
    record = run.run(spec, tmp_path / "without", "id", "name", keep_texts=False)
    assert (record.artefact, record.scores) == (whole.artefact, whole.scores)
    rows = RunDir(tmp_path / "without").read_predictions()
    assert [row.text_withheld for row in rows] == [bool(text) for text in texts]
    [shot, *_] = json.loads((tmp_path / "whole" / "artefact" / "shots.json").read_text())
    held = "".join(path.read_text() for path in (tmp_path / "without").rglob("*") if path.is_file())
    assert shot["document"] not in held
    assert not any(text in held for text in texts if len(text) > 20)
    assert not list((tmp_path / "without" / "artefact").iterdir())


def test_the_number_format_of_a_study_is_not_measured_again(tiny_model, tiny_data, tmp_path, monkeypatch):
    fixed = spec_of("zero_shot", tiny_model("gpt_neo"), tiny_data)
    auto = fixed.model_copy(update={"model": fixed.model.model_copy(update={"precision": "auto"})})
    real = choose_dtype

    def choose(precision, device):
        assert precision != "auto", "measured"
        return real(precision, device)

    monkeypatch.setattr(run, "choose_dtype", choose)
    dtypes = [
        run.run(spec, tmp_path / str(number), "id", "name", number_format="bf16").details.dtype
        for number, spec in enumerate((auto, fixed))
    ]
    assert dtypes == ["bfloat16", "float32"]


def test_a_run_scores_as_many_documents_as_its_spec_says(tiny_model, tiny_data, tmp_path):
    """Those that the limit of the data set would keep, so a smaller number is part of a larger one."""
    spec = spec_of("zero_shot", tiny_model("gpt_neo"), tiny_data)
    limited = spec.model_copy(update={"data": spec.data.model_copy(update={"max_test_documents": 3})})
    expected = [example.id for example in load_dataset(limited.data).test]
    record = run.run(spec.model_copy(update={"scored_documents": 3}), tmp_path, "id", "name")
    assert record.details.test_examples == len(expected) == 3
    written = StoredRun(RunDir(tmp_path), record).predictions
    assert [row.id for row in written] == expected


def test_artefacts_have_the_permissions_of_the_user(tiny_model, tiny_data, tmp_path):
    """safetensors writes files that only their owner can read."""
    before = os.umask(0o027)
    try:
        run.run(spec_of("lora", tiny_model("llama"), tiny_data, max_steps=1), tmp_path, "id", "name")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()} == {0o640}


def test_the_same_spec_gives_the_same_texts_and_losses(tiny_model, tiny_data, tmp_path):
    spec = spec_of("lora", tiny_model("gpt_neo"), tiny_data)
    one, two = (run.run(spec, tmp_path / name, "id", "name") for name in ("one", "two"))
    assert [point.loss for point in one.curve.train] == [point.loss for point in two.curve.train]
    assert RunDir(tmp_path / "one").read_predictions() == RunDir(tmp_path / "two").read_predictions()


def test_what_goes_wrong_is_a_record(tiny_data, tmp_path):
    record = run.run(spec_of("full", tmp_path / "missing", tiny_data), tmp_path / "run", "id", "name")
    assert RunDir(tmp_path / "run").read_record() == record
    assert record.status == "failed"
    assert record.failure is not None
    assert "no such folder or file" in record.failure.message
    assert record.failure.traceback is None


def test_a_diverged_run_is_a_readable_record(tiny_model, tiny_data, tmp_path, monkeypatch):
    """Losses that are no number have no word in JSON: the record must not hold one."""
    from tuneoff.engine import trainer

    monkeypatch.setattr(trainer, "validation_loss", lambda *args, **kwargs: float("nan"))
    run.run(spec_of("full", tiny_model("llama"), tiny_data), tmp_path, "id", "name")
    record = RunDir(tmp_path).read_record()
    assert record.status == "diverged"
    assert record.failure is not None
    assert "not finite" in record.failure.message
    assert len(record.curve.train) == 3
    assert "NaN" not in json.dumps(record.model_dump(mode="json"))


@pytest.mark.parametrize("name", ["zero_shot", "few_shot"])
def test_a_method_that_trains_nothing_diverges_too(name, tiny_model, tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "validation_loss", lambda *args, **kwargs: float("inf"))
    run.run(spec_of(name, tiny_model("llama"), tiny_data), tmp_path, "id", "name")
    record = RunDir(tmp_path).read_record()
    assert record.status == "diverged"
    assert record.failure is not None
    assert "the validation loss is not finite at step 0" in record.failure.message
    assert not record.curve.validation


def test_a_text_without_finite_logits_is_a_diverged_run(tiny_model, tiny_data, tmp_path, monkeypatch):
    def generate(*args, **kwargs):
        raise NotFinite("doc3")

    monkeypatch.setattr(run, "generate", generate)
    run.run(spec_of("lora", tiny_model("llama"), tiny_data), tmp_path, "id", "name")
    record = RunDir(tmp_path).read_record()
    assert record.status == "diverged"
    assert record.failure is not None
    assert "doc3 is generated after step 3" in record.failure.message
    assert not record.scores


def test_broken_weights_are_a_diverged_run(tiny_model, tiny_data, tmp_path):
    folder = shutil.copytree(tiny_model("llama"), tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    run.run(spec_of("zero_shot", folder, tiny_data), tmp_path / "run", "id", "name")
    record = RunDir(tmp_path / "run").read_record()
    assert record.status == "diverged"
    assert record.failure is not None
    assert "NaN or infinite values in 1 of its tensors (first: model.norm.weight)" in record.failure.message


def test_a_run_that_is_stopped_while_it_writes_keeps_its_training(tiny_model, tiny_data, tmp_path, monkeypatch):
    """The trained weights are saved, although no checkpoint was due, and the texts are those of an undisturbed run."""
    spec = spec_of("lora", tiny_model("llama"), tiny_data)
    whole = run.run(spec, tmp_path / "whole", "id", "name")
    real = generation.generate

    def generate(*args, **kwargs):
        stopping.request_stop(signal.SIGTERM)
        return real(*args, **kwargs)

    monkeypatch.setattr(run, "generate", generate)
    try:
        with pytest.raises(stopping.Stopped):
            run.run(spec, tmp_path / "run", "id", "name")
    finally:
        stopping._Run.asked = None
    assert not (tmp_path / "run" / "record.json").exists()
    monkeypatch.undo()
    monkeypatch.setattr(Trainer, "_step", None)  # fails if anything is trained
    again = run.run(spec, tmp_path / "run", "id", "name")
    assert again.status == "finished"
    assert (again.scores, again.notes) == (whole.scores, again.notes)
    assert any("resumed after step 3" in note for note in again.notes)
    assert RunDir(tmp_path / "run").read_predictions() == RunDir(tmp_path / "whole").read_predictions()
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_a_run_that_is_stopped_when_its_work_is_done_has_its_record(tiny_model, tiny_data, tmp_path, monkeypatch):
    """Otherwise neither a record nor a state would be left of its training."""
    real = metrics.rouge_signature

    def rouge_signature(*args):
        stopping.request_stop(signal.SIGTERM)
        return real(*args)

    monkeypatch.setattr(metrics, "rouge_signature", rouge_signature)
    try:
        with pytest.raises(stopping.Stopped):
            run.run(spec_of("lora", tiny_model("llama"), tiny_data), tmp_path, "id", "name")
    finally:
        stopping._Run.asked = None
    assert RunDir(tmp_path).read_record().status == "finished"
    assert RunDir(tmp_path).read_predictions()


KILLED = """
import functools, os, signal, sys
from pathlib import Path
from tuneoff import run
from tuneoff.results.events import Generated, StepDone
from tuneoff.spec import RunSpec

run.Checkpoints = functools.partial(run.Checkpoints, min_seconds=-1e9)
work = run._Work.__init__

def watched(self, spec, run_id, run_dir, meter, emit):
    def emit_and_die(event):
        emit(event)
        if isinstance(event, {event}):
            os.kill(os.getpid(), signal.SIGKILL)
    work(self, spec, run_id, run_dir, meter, emit_and_die)

run._Work.__init__ = watched
run.run(RunSpec.model_validate_json(sys.argv[1]), Path(sys.argv[2]), "id", "name")
"""


@pytest.mark.slow
@pytest.mark.parametrize("event", ["StepDone) and event.step == 3 and (True", "Generated"])
def test_a_killed_run_continues_where_it_was(event, tiny_model, tiny_data, tmp_path):
    """kill -9 in training and in writing: the same losses, weights and texts as without, and nothing left over."""
    spec = spec_of("lora", tiny_model("llama"), tiny_data, max_steps=5)
    whole = run.run(spec, tmp_path / "whole", "id", "name")
    folder = tmp_path / "killed"
    script = KILLED.replace("{event}", event)
    command = [sys.executable, "-W", "ignore", "-c", script, spec.model_dump_json(), str(folder)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not (folder / "record.json").exists()
    assert (folder / "checkpoint.safetensors").exists()
    record = run.run(spec, folder, "id", "name")
    assert record.status == "finished"
    assert [point.loss for point in record.curve.train] == [point.loss for point in whole.curve.train]
    assert record.curve.best_validation_loss == whole.curve.best_validation_loss
    assert RunDir(folder).read_predictions() == RunDir(tmp_path / "whole").read_predictions()
    assert record.resources is not None
    assert whole.resources is not None
    assert record.resources.phases["train"].tokens == whole.resources.phases["train"].tokens
    assert any("training resumed after step" in note for note in record.notes)
    weights = "artefact/adapter_model.safetensors"
    assert (folder / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()
    assert {path.name for path in folder.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}


def test_a_state_belongs_to_the_versions_that_wrote_it(tiny_model, tiny_data, tmp_path, monkeypatch):
    identities = []

    class Noticed(Checkpoints):
        def __init__(self, folder, identity=None, **named):
            super().__init__(folder, identity, **named)
            identities.append(identity)

    monkeypatch.setattr(run, "Checkpoints", Noticed)
    run.run(spec_of("lora", tiny_model("gpt_neo"), tiny_data, max_steps=1), tmp_path, "0123", "name")
    (identity,) = filter(None, identities)
    assert identity.items() >= {"run": "0123", "python": platform.python_version(), **models.versions()}.items()
    assert {"torch", "peft", "transformers", "tuneoff"} <= identity.keys()


@pytest.mark.real
@pytest.mark.skipif(
    (models.starter_file() is None or not starter_present()) and "CI" not in os.environ,
    reason="the starter packages are not installed",
)
def test_starter_model_and_data_end_to_end(tmp_path):
    spec = RunSpec(
        model=ModelSpec(name="starter"),
        prompt=PromptSpec(instruction="Summarize the {aspect} of this paper in one sentence.", max_length=256),
        data=DataSpec(source="starter", max_train_documents=4, max_validation_documents=1, max_test_documents=1),
        method=MethodSpec(name="lora", hyperparameters=defaults("lora")),
        train=TrainSpec(max_steps=3, batch_size=2),
        generate=GenerateSpec(max_new_tokens=24),
    )
    record = run.run(spec, tmp_path, "id", "name")
    assert record.failure is None
    # An untrained model of 49,152 tokens starts at log(49152) = 10.8 nats; this one has learned to write.
    assert record.curve.best_validation_loss is not None
    assert record.curve.best_validation_loss < 4
    assert record.details.template == "chat"
    assert record.details.target_modules is not None
    assert record.details.target_modules["q_proj"] == 30
    assert (record.scores["rouge1"] or 0) > 5
    assert record.scores["empty"] == 0


def test_a_record_names_no_path_of_this_machine(tiny_model, tiny_data, tmp_path):
    spec = spec_of("zero_shot", tiny_model("llama"), tiny_data)
    record = run.run(spec, tmp_path, "id", "name")
    assert record.spec.data.train_file == tiny_data["train"].name
    data_folder = str(tiny_data["train"].parent)
    for path in tmp_path.rglob("*.json*"):
        assert data_folder not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("method", ["soft_prompt", "soft_prompt_after", "prefix_tuning", "lora"])
def test_a_record_says_where_virtual_tokens_start_and_end(tiny_model, tiny_data, tmp_path, method):
    details = run.run(spec_of(method, tiny_model("llama"), tiny_data), tmp_path, "id", "name").details
    if not method.startswith("soft_prompt"):  # keys and values of layers, or nothing at all
        assert details.first_place is details.trained_place is None
        return
    assert isinstance(details.trained_place, EmbeddingPosition)
    assert isinstance(details.first_place, EmbeddingPosition)
    assert details.first_place.nearest_cosine == pytest.approx(1, abs=1e-5)  # a text
    assert details.trained_place != details.first_place


def test_an_output_that_contains_the_filled_instruction_is_counted(tiny_model, tiny_data, tmp_path, monkeypatch):
    spec = spec_of("zero_shot", tiny_model("llama"), tiny_data)
    spec = spec.model_copy(update={"prompt": PromptSpec(max_length=160, instruction="Tell  the {aspect} of it.")})
    plain = data.load_dataset

    def with_fields(wanted, _):
        found = plain(wanted)
        splits: dict[str, Any] = {
            name: [dataclasses.replace(row, fields={"aspect": "Aim"}) for row in getattr(found, name)]
            for name in ("train", "validation", "test")
        }
        return dataclasses.replace(found, **splits)

    monkeypatch.setattr(data, "load_dataset", with_fields)
    monkeypatch.setattr(prompts.Prompter, "decode", lambda *_: "x tell the aim\nof it. y")
    assert run.run(spec, tmp_path, "id", "name").details.instruction_share == 1.0
    monkeypatch.setattr(prompts.Prompter, "decode", lambda *_: "tell the {aspect} of it.")
    assert run.run(spec, tmp_path / "raw", "id", "name").details.instruction_share == 0.0


def test_norms_are_taken_where_there_is_double_precision():
    """Apple's accelerator has none: every training there would end before its first step."""

    class There:
        def detach(self):
            return self

        def cpu(self):
            return torch.tensor([3.0, 4.0])

        def double(self):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    adapted: Any = types.SimpleNamespace(state=lambda: {"weight": There()})
    assert run._norms(adapted) == {"weight": 5.0}


@pytest.mark.parametrize("name", ["full", "lora"])
def test_a_finished_run_is_used_with_the_attention_that_it_had(name, tiny_model, tiny_data, tmp_path, monkeypatch):
    spec = spec_of(name, tiny_model("llama"), tiny_data)
    run.run(spec, tmp_path, "id", "name")
    seen = []

    def recorded(adapted, *rest, **named):
        seen.append(adapted.model.config._attn_implementation)
        return generate(adapted, *rest, **named)

    monkeypatch.setattr(run, "generate", recorded)
    assert len(list(load_adapted(tmp_path).write(load_dataset(spec.data).test[:2]))) == 2
    assert seen == ["tuneoff_causal"]


def test_a_peft_type_that_cannot_be_merged_is_recorded(tiny_model, tiny_data, tmp_path, monkeypatch):
    def refuse(_adapted):
        raise NotImplementedError

    from peft.tuners.tuners_utils import BaseTuner

    monkeypatch.setattr(BaseTuner, "merge_and_unload", refuse)
    record = run.run(spec_of("peft:LOHA", tiny_model("llama"), tiny_data), tmp_path, "id", "name")
    assert record.status == "finished", record.failure
    assert record.details.merged is False


# Using a finished run


@pytest.mark.parametrize(
    ("by_processor", "dtype"), [(None, torch.bfloat16), (True, torch.bfloat16), (False, torch.float32)]
)
def test_a_model_is_used_in_the_number_format_of_its_run(
    by_processor: bool | None, dtype: torch.dtype, tiny_model, tiny_data, tmp_path, monkeypatch
):
    """Whatever is faster at this moment: its texts are those of the study."""
    spec = spec_of("zero_shot", tiny_model("llama"), tiny_data)
    run.run(spec, tmp_path, "id", "name")
    record = RunDir(tmp_path).read_record()
    of_a_bf16_run = record.model_copy(
        update={
            "spec": spec.model_copy(update={"model": spec.model.model_copy(update={"precision": "auto"})}),
            "details": record.details.model_copy(update={"dtype": "bfloat16"}),
        }
    )
    monkeypatch.setattr(precision, "bf16_by_processor", lambda: by_processor)
    monkeypatch.setattr(precision, "has_fast_bf16", lambda _device: False)
    loaded = run.load_adapted(StoredRun(RunDir(tmp_path), of_a_bf16_run))
    assert {parameter.dtype for parameter in loaded.base.model.parameters()} == {dtype}


def test_documents_as_text_are_enough(tiny_model, tiny_data, tmp_path):
    """`generate` writes for plain texts what `write` writes for examples."""
    spec = spec_of("lora", tiny_model("llama"), tiny_data)
    run.run(spec, tmp_path, "id", "name")
    generator = load_adapted(tmp_path)
    documents = load_dataset(spec.data).test
    assert generator.generate([example.document for example in documents]) == [
        new.text for new in generator.write(documents)
    ]
    assert generator.generate([]) == []
    padded = [f" {example.document}\n\n" for example in documents]
    assert generator.generate(padded) == generator.generate([example.document for example in documents])
    with pytest.raises(UserError, match="document 2 of 2 is empty"):
        generator.generate(["a", " \n"])


def test_an_instruction_with_fields_needs_more_than_a_text(tiny_model, tiny_data, tmp_path):
    spec = spec_of("zero_shot", tiny_model("llama"), tiny_data)
    run.run(spec, tmp_path, "id", "name")
    generator = load_adapted(tmp_path)
    asked = spec.model_copy(update={"prompt": PromptSpec(max_length=160, instruction="Tell the {aspect}.")})
    with pytest.raises(UserError, match="needs aspect for each document"):
        dataclasses.replace(generator, spec=asked).generate(["x"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"role": "trial"}, "a trial run leaves nothing to use"),
        ({"status": "failed"}, "this run is failed"),
        ({"format": "peft"}, r"artefact/gone\.bin is missing, perhaps because records were copied"),
        ({"format": "prompt"}, "it holds documents and the study keeps none"),
    ],
)
def test_a_run_that_cannot_be_used_is_refused_before_a_model_is_loaded(changes, words, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "load_model", lambda *_: pytest.fail("loaded"))
    data_files = dict.fromkeys(("train", "validation", "test"), "x.jsonl")
    spec = spec_of("lora", "m", data_files).model_copy(update={"role": changes.get("role", "final")})
    artefact = Artefact(format=changes.get("format", "none"), bytes=1, files=("README.md", "gone.bin"))
    record = Record(
        run_id="0", name="x", status=changes.get("status", "finished"), spec=spec, started_at="", artefact=artefact
    )
    with pytest.raises(UserError, match=words):
        run.load_adapted(StoredRun(RunDir(tmp_path), record))


def test_weights_that_were_exchanged_after_scoring_are_not_used(tiny_model, tiny_data, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(tiny_model("llama"), model)
    folder = tmp_path / "run"
    record = run.run(spec_of("zero_shot", model, tiny_data), folder, "id", "name")
    assert load_adapted(folder).notes == ()
    without = record.model_copy(update={"provenance": record.provenance.model_copy(update={"model": None})})
    weights = model / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    os.utime(weights, ns=(1, 1))
    with pytest.raises(UserError, match=r"are not those that this run was scored with.*; restore that model"):
        load_adapted(folder)
    (note,) = run.load_adapted(StoredRun(RunDir(folder), without)).notes
    assert "its record holds no digest of the model" in note


def test_a_record_cannot_allow_code_of_a_model(tiny_model, tiny_data, tmp_path):
    record = run.run(spec_of("zero_shot", tiny_model("llama"), tiny_data), tmp_path, "id", "name")
    model = record.spec.model.model_copy(update={"trust_remote_code": True})
    spec = record.spec.model_copy(update={"model": model})
    stored = StoredRun(RunDir(tmp_path), record.model_copy(update={"spec": spec}))
    with pytest.raises(UserError, match=r"a record cannot allow; add --trust-remote-code \(in Python: "):
        run.load_adapted(stored)
    assert run.load_adapted(stored, trust_remote_code=True).notes == ()


def test_an_artefact_is_read_only_inside_its_folder(tiny_model, tiny_data, tmp_path):
    run.run(spec_of("few_shot", tiny_model("llama"), tiny_data), tmp_path / "run", "id", "name")
    shots = RunDir(tmp_path / "run").artefact / "shots.json"
    shots.rename(tmp_path / "secret.json")
    shots.symlink_to(tmp_path / "secret.json")
    with pytest.raises(UserError, match=r"shots\.json: a link to .*secret\.json, outside"):
        load_adapted(tmp_path / "run")
    shots.unlink()
    shots.write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"shots\.json: damaged: its content has changed"):
        load_adapted(tmp_path / "run")
    (tmp_path / "run" / "manifest.json").unlink()  # of an earlier version, without digests
    with pytest.raises(UserError, match=r"shots\.json: missing or damaged"):
        load_adapted(tmp_path / "run")


def test_an_adapter_that_lost_weights_is_not_used(tiny_model, tiny_data, tmp_path):
    """PEFT only warns, and generates with layers as they were before training."""
    run.run(spec_of("lora", tiny_model("llama"), tiny_data), tmp_path, "id", "name")
    (tmp_path / "manifest.json").unlink()  # of an earlier version, without digests
    path = RunDir(tmp_path).artefact / "adapter_model.safetensors"
    tensors = load_file(path)
    first = sorted(tensors)[0]
    save_file({name: tensor for name, tensor in tensors.items() if name != first}, path)
    with pytest.raises(UserError, match="1 weight missing"):
        load_adapted(tmp_path)
    save_file({**tensors, "base_model.model.more.lora_A.weight": tensors[first].clone()}, path)
    with pytest.raises(UserError, match="1 weight of no use in this model"):
        load_adapted(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="truncated"):
        load_adapted(tmp_path)


def test_a_method_of_another_package_cannot_break_the_record(tiny_model, tiny_data, tmp_path, monkeypatch):
    """Details that are not JSON, or of the wrong type, fail the run, and the record says why."""
    spec = spec_of("zero_shot", tiny_model("llama"), tiny_data)
    real = run._Work._count_parameters

    def report(details):
        def count(work, adapted):
            real(work, adapted)
            work._report(**details)

        return count

    for name, details, status in (
        ("own", {"of_mine": [1, {"a": None}]}, "finished"),
        ("type", {"blocks": "many"}, "failed"),
        ("object", {"of_mine": object()}, "failed"),
    ):
        monkeypatch.setattr(run._Work, "_count_parameters", report(details))
        record = run.run(spec, tmp_path / name, "id", "name")
        assert record.status == status
        assert RunDir(tmp_path / name).read_record() == record
    assert RunDir(tmp_path / "own").read_record().details.model_extra == {"of_mine": [1, {"a": None}]}
