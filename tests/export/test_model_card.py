"""The model card, and the code in it that loads an artefact without tuneoff."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

from tuneoff import models
from tuneoff.export.formats import ArtefactFormat
from tuneoff.export.model_card import write_model_card
from tuneoff.methods import Method, build, defaults
from tuneoff.prompts import AS_GIVEN, Prompter, Prompting
from tuneoff.spec import DataSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec

IDS = torch.tensor([[5, 6, 7, 8]])


def spec_of(method: Method, model: ModelSpec, instruction: str = "Summarize this.") -> RunSpec:
    return RunSpec(
        model=model,
        prompt=PromptSpec(instruction=instruction),
        data=DataSpec(source="starter"),
        method=MethodSpec(name=method.name, hyperparameters=defaults(method.name)),
    )


def prompter_of(spec: RunSpec, model: Path, prompting: Prompting = AS_GIVEN) -> Prompter:
    tokenizer = models.load_tokenizer(ModelSpec(name=str(model)))
    return Prompter(tokenizer, spec.prompt, max_new_tokens=4, prompting=prompting)


def test_the_card_states_the_prompt_as_the_method_words_it(tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    method = build("soft_prompt", {"keep_instruction": False})
    spec = spec_of(method, ModelSpec(), "Secretly summarize the {aspect}.")
    prompter = prompter_of(spec, tiny_model("llama"), method.prompting)
    write_model_card(tmp_path, spec, method, "peft", prompter)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert '"instruction": "{aspect}"' in text
    assert "Secretly" not in text
    assert text.startswith("---\nlibrary_name: peft\n")


def test_the_card_shows_the_whole_prompt_with_a_placeholder(tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    method = build("lora", {})
    spec = spec_of(method, ModelSpec(), "Name the {aspect}.\n```")
    prompter = prompter_of(spec, tiny_model("llama"))
    write_model_card(tmp_path, spec, method, "peft", prompter)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert '"Name the {aspect}.\\n```\\n\\nDOCUMENT\\n\\nSummary:"' in text
    assert text.count("\n```\n") == text.count("\n```json\n") + text.count("\n```python\n")


def test_the_library_of_the_hub_reads_the_name_of_a_method_as_text(
    tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    method = build("lora", {})
    spec = spec_of(method, ModelSpec())
    monkeypatch.setattr(type(method), "name", "no")  # as a package may call its own; YAML takes it for false
    write_model_card(tmp_path, spec, method, "peft", prompter_of(spec, tiny_model("llama")))
    assert ModelCard.load(tmp_path / "README.md").data.tags == ["tuneoff", "no"]


@pytest.mark.parametrize("artefact_format", ["prompt", "none"])
def test_without_weights_there_is_no_card(
    artefact_format: ArtefactFormat, tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    method = build("zero_shot", {})
    spec = spec_of(method, ModelSpec())
    write_model_card(tmp_path, spec, method, artefact_format, prompter_of(spec, tiny_model("llama")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:Using the model-agnostic default `max_length`")
@pytest.mark.parametrize("name", ["full", "ln_tuning", "lora", "soft_prompt", "soft_prompt_after"])
def test_the_code_of_the_card_loads_the_artefact(name: str, tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    model_spec = ModelSpec(name=str(tiny_model("qwen2")))
    base = models.load_model(model_spec, torch.device("cpu"), torch.float32)
    method = build(name, {})
    adapted = method.adapt(base, [], 0)
    with torch.no_grad():
        for tensor in adapted.state().values():
            tensor.mul_(1.5).add_(0.01)
    spec = spec_of(method, model_spec)
    prompter = prompter_of(spec, Path(model_spec.name), adapted.prompting)
    write_model_card(tmp_path, spec, method, adapted.save(tmp_path), prompter)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, object] = {"prompt": IDS}
    exec(code.replace("FOLDER", str(tmp_path)), names)
    loaded = names["model"]
    assert isinstance(loaded, torch.nn.Module)
    if name == "soft_prompt_after":
        answer = names["answer"]
        assert isinstance(answer, torch.Tensor)
        assert answer.shape[0] == 1
        return
    with torch.inference_mode():
        found = loaded.eval()(input_ids=IDS).logits[:, -4:]
        if isinstance(prefix := adapted.prefix(), torch.Tensor):
            embeddings = torch.cat([prefix, base.model.get_input_embeddings()(IDS[0])])[None]
            expected = base.model(inputs_embeds=embeddings).logits[:, -4:]
        else:
            adapted.train_mode(False)
            expected = adapted.model(input_ids=IDS).logits
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)
