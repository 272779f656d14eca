"""Exports that are impossible are refused with the reason and the nearest alternative, before a model is loaded."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuneoff.errors import UserError
from tuneoff.export.wanted import Wanted, check_wanted
from tuneoff.methods import defaults
from tuneoff.results.run_record import Artefact, Record, RunDetails
from tuneoff.spec import DataSpec, GenerateSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec


def record_of(method: str, kind: Any, model: str = "starter", **changes: Any) -> Record:
    spec = RunSpec(
        model=ModelSpec(name=model),
        prompt=PromptSpec(instruction="Name the {aspect}."),
        data=DataSpec(source="starter"),
        method=MethodSpec(name=method, hyperparameters=defaults(method)),
        generate=changes.pop("generate", GenerateSpec()),
    )
    return Record(
        run_id="x",
        name=f"{method}-s0",
        status="finished",
        spec=spec,
        started_at="",
        artefact=Artefact(format=kind, bytes=1),
        **changes,
    )


@pytest.mark.parametrize(
    ("method", "kind", "form", "words"),
    [
        ("full", "transformers", "adapter", "use --to merged"),
        ("zero_shot", "none", "adapter", "trains nothing, its result is the prompt; use --to merged"),
        ("few_shot", "prompt", "adapter", "use --to merged"),
        ("soft_prompt", "peft", "merged", "virtual tokens, which are not weights of the model.*use --to adapter"),
        ("soft_prompt_after", "embeddings", "gguf", "virtual tokens.*use --to adapter"),
        ("prefix_tuning", "peft", "ollama", "virtual tokens.*use --to adapter"),
    ],
)
def test_what_the_method_does_not_allow(method: str, kind: str, form: Any, words: str) -> None:
    with pytest.raises(UserError, match=f"^--to {form}: .*{words}"):
        check_wanted(record_of(method, kind), Wanted(form))


def test_an_adapter_that_peft_cannot_merge() -> None:
    record = record_of("lora", "peft", details=RunDetails(merged=False))
    with pytest.raises(UserError, match="PEFT cannot merge an adapter of lora into the weights; use --to adapter"):
        check_wanted(record, Wanted("merged"))
    check_wanted(record, Wanted("adapter"))


def test_what_llama_cpp_does_not_have(tiny_model: Callable[[str], Path]) -> None:
    for form in ("gguf", "ollama"):
        with pytest.raises(UserError, match=re.escape("llama.cpp has no models of the kind gpt_neo; use --to merged")):
            check_wanted(record_of("full", "transformers", str(tiny_model("gpt_neo"))), Wanted(form))
    beams = record_of("lora", "peft", str(tiny_model("llama")), generate=GenerateSpec(num_beams=4))
    with pytest.raises(UserError, match="4 beams"):
        check_wanted(beams, Wanted("gguf"))
    check_wanted(beams, Wanted("merged"))


def test_a_modelfile_needs_values_for_the_fields(tiny_model: Callable[[str], Path]) -> None:
    record = record_of("lora", "peft", str(tiny_model("llama")))
    with pytest.raises(UserError, match="--field aspect=VALUE"):
        check_wanted(record, Wanted("ollama"))
    check_wanted(record, Wanted("ollama", fields={"aspect": "result"}))
    check_wanted(record, Wanted("gguf"))


def test_only_the_files_of_a_format_are_exported() -> None:
    record = record_of("lora", "peft")
    own = ("README.md", "adapter_config.json", "adapter_model.safetensors")
    for more in ("x.gguf", "adapter_model.bin", "sub/adapter_config.json", "tokenizer.json", "trained.safetensors"):
        files = record.artefact.model_copy(update={"files": (*own, more)}) if record.artefact else None
        with pytest.raises(UserError, match=f"--to adapter: the record lists artefact/{more}, and an artefact of the"):
            check_wanted(record.model_copy(update={"artefact": files}), Wanted("adapter"))
    files = record.artefact.model_copy(update={"files": own}) if record.artefact else None
    check_wanted(record.model_copy(update={"artefact": files}), Wanted("adapter"))
