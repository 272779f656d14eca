"""Variants of the soft prompt: without the instruction's words, and trained through a network."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tiny import ARCHITECTURES, example_row
from tuneoff import models
from tuneoff.data import Example
from tuneoff.engine.loss import collate, target_logits, target_loss
from tuneoff.engine.optimizer import MasterAdamW
from tuneoff.errors import UserError
from tuneoff.export import model_card
from tuneoff.methods import build, defaults
from tuneoff.prompts import Encoded, Prompter
from tuneoff.spec import DataSpec, MethodSpec, ModelSpec, PromptSpec, RunSpec

CPU = torch.device("cpu")
BOTTLENECK = {"residual_bottleneck": 8}


def load(folder: Path) -> models.BaseModel:
    return models.load_model(ModelSpec(name=str(folder)), CPU, torch.float32)


def rows(base: models.BaseModel) -> list[Encoded]:
    prompter = Prompter(base.tokenizer, PromptSpec(max_length=128), max_new_tokens=8, reserved_tokens=20)
    examples = [Example(row["id"], row["document"], (row["summary"],), row["id"]) for row in map(example_row, range(4))]
    return prompter.encode(examples, with_target=True)[0]


def logits(adapted, encoded) -> torch.Tensor:
    with torch.inference_mode():
        return target_logits(adapted, collate(encoded, 0, CPU))


def train(adapted, encoded, steps: int = 4) -> None:
    optimizer = MasterAdamW(adapted.state().values(), 0.0)
    for _ in range(steps):
        target_loss(adapted, collate(encoded, 0, CPU)).backward()
        for place in range(len(optimizer.parameters)):
            optimizer.take(place)
        optimizer.step(1e-2, 1.0)


def text_of(base, method, instruction: str, **fields: str) -> str:
    prompting = method.adapt(base, [], 0).prompting
    prompter = Prompter(
        base.tokenizer, PromptSpec(instruction=instruction, cue="TL;DR:"), max_new_tokens=4, prompting=prompting
    )
    [row], _ = prompter.encode([Example("d", "the paper is short", ("",), "g", fields)], with_target=False)
    return base.tokenizer.decode(row.prompt)


def test_without_the_instruction_the_prompt_holds_none(tiny_model):
    base = load(tiny_model("qwen2"))
    dropped, kept = build("soft_prompt", {"keep_instruction": False}), build("soft_prompt", {})
    assert text_of(base, kept, "Summarize this.") == "Summarize this.\n\nthe paper is short\n\nTL;DR:"
    assert text_of(base, dropped, "Summarize this.") == "\n\nthe paper is short\n\nTL;DR:"


def test_fields_of_a_dropped_instruction_stay(tiny_model):
    """Two questions about one document are two prompts still."""
    base = load(tiny_model("qwen2"))
    method = build("soft_prompt", {"keep_instruction": False})
    text = text_of(base, method, "The {aspect} of {year}, the {aspect}.", aspect="{result}", year="2020", result="x")
    assert text == "{result} 2020\n\nthe paper is short\n\nTL;DR:"


def test_a_dropped_instruction_is_dropped_after_restoring_too(tiny_model, tmp_path):
    base = load(tiny_model("qwen2"))
    method = build("soft_prompt", {"keep_instruction": False})
    adapted = method.adapt(base, [], 0)
    adapted.save(tmp_path)
    assert (
        method.restore(base, tmp_path).prompting
        == adapted.prompting
        != build("soft_prompt", {}).adapt(base, [], 0).prompting
    )


def test_the_card_states_the_prompt_as_it_was_worded(tiny_model, tmp_path):
    method = build("soft_prompt", {"keep_instruction": False})
    spec = RunSpec(
        model=ModelSpec(),
        prompt=PromptSpec(instruction="Secretly summarize the {aspect}."),
        data=DataSpec(source="starter"),
        method=MethodSpec(name="soft_prompt", hyperparameters=defaults("soft_prompt")),
    )
    model_card.write(tmp_path, spec, method, "peft", method.adapt(load(tiny_model("qwen2")), [], 0).prompting)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert '"instruction": "{aspect}"' in text
    assert "Secretly" not in text


def test_residual_starts_at_the_text_plus_a_vector_of_variance_one(tiny_model):
    base = load(tiny_model("qwen2"))
    plain = build("soft_prompt", {}).adapt(base, [], 0)
    adapted = build("soft_prompt", BOTTLENECK).adapt(base, [], 0)
    assert torch.equal(adapted.prompt_VD, plain.prompt_VD)
    added_VD = adapted.prefix() - plain.prefix()
    torch.testing.assert_close(added_VD.mean(1), torch.zeros(20), atol=1e-5, rtol=0)
    torch.testing.assert_close(added_VD.var(1, correction=0), torch.ones(20), atol=1e-2, rtol=0)  # the norm's epsilon


@dataclass
class _Reference(torch.nn.Module):
    """The same network out of torch's own modules."""

    state: dict[str, torch.Tensor]

    def __call__(self, tokens_VD: torch.Tensor) -> torch.Tensor:
        width, bottleneck = self.state["network.up.weight"].shape
        layers = torch.nn.Sequential()
        layers.add_module("down", torch.nn.Linear(width, bottleneck))
        layers.add_module("relu", torch.nn.ReLU())
        layers.add_module("up", torch.nn.Linear(bottleneck, width))
        layers.add_module("norm", torch.nn.LayerNorm(width))
        layers.load_state_dict(
            {
                name.removeprefix("network."): weight
                for name, weight in self.state.items()
                if name.startswith("network.")
            }
        )
        return tokens_VD + layers(tokens_VD)


def test_residual_is_the_papers_network_and_all_of_it_trains(tiny_model):
    base = load(tiny_model("qwen2"))
    adapted = build("soft_prompt", BOTTLENECK).adapt(base, [], 0)
    start = {name: tensor.detach().clone() for name, tensor in adapted.state().items()}
    train(adapted, rows(base))
    assert len(start) == 7
    assert all(not torch.equal(tensor, start[name]) for name, tensor in adapted.state().items())
    torch.testing.assert_close(adapted.prefix(), _Reference(adapted.state())(adapted.prompt_VD))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_folding_the_network_changes_no_logits(architecture, tiny_model, tmp_path):
    """The artefact is a plain soft prompt, and so is what writes."""
    base = load(tiny_model(architecture))
    method = build("soft_prompt", BOTTLENECK)
    adapted = method.adapt(base, [], 0)
    train(adapted, rows(base))
    tuned = logits(adapted, rows(base))
    assert not torch.allclose(adapted.prefix(), adapted.prompt_VD)
    adapted.save(tmp_path)
    adapted.merge()
    assert list(adapted.state()) == ["prompt_embeddings"]
    assert torch.equal(logits(adapted, rows(base)), tuned)
    assert torch.equal(logits(method.restore(base, tmp_path), rows(base)), tuned)
    assert {path.name for path in tmp_path.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


def test_other_seed_other_network(tiny_model):
    base = load(tiny_model("qwen2"))
    first, again, other = (build("soft_prompt", BOTTLENECK).adapt(base, [], seed).state() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["network.up.weight"], other["network.up.weight"])


def test_values_that_cannot_be_are_refused():
    with pytest.raises(UserError, match=r"soft_prompt.keep_instruction = 'no': expected true or false"):
        build("soft_prompt", {"keep_instruction": "no"})
    with pytest.raises(UserError, match=r"soft_prompt.residual_bottleneck = -1: must be 0 \(no network\)"):
        build("soft_prompt", {"residual_bottleneck": -1})
