"""Soft prompts, and their variants: without the instruction's words, and trained through a network."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from method_helpers import TinyModel, encoded, examples, logits, train, write_texts
from safetensors.torch import load_file, save_file

from support.tiny_bases import load_tiny
from tiny import ARCHITECTURES, pairs
from tuneoff import models
from tuneoff.data import Example
from tuneoff.errors import UserError
from tuneoff.methods import AdaptedModel, Method, build
from tuneoff.methods.soft_prompt import VirtualTokens
from tuneoff.prompts import Prompter
from tuneoff.spec import PromptSpec

BOTTLENECK: dict[str, object] = {"residual_bottleneck": 8}


def adapt(base: models.BaseModel, hyperparameters: dict[str, object]) -> VirtualTokens:
    adapted = build("soft_prompt", hyperparameters).adapt(base, [], 0)
    assert isinstance(adapted, VirtualTokens)
    return adapted


def embeddings_of(adapted: AdaptedModel) -> torch.Tensor:
    prefix = adapted.prefix()
    assert isinstance(prefix, torch.Tensor)
    return prefix


def test_soft_prompt_starts_from_the_text(tiny_model: TinyModel) -> None:
    base = load_tiny(tiny_model("llama"))
    adapted = adapt(base, {"initial_prompt": "the paper", "num_virtual_tokens": 7})
    ids = base.tokenizer("the paper", add_special_tokens=False)["input_ids"]
    wanted = (ids * 7)[:7]
    assert torch.equal(adapted.prompt_VD, base.model.get_input_embeddings().weight[wanted].float())


@pytest.mark.parametrize(("name", "architecture"), pairs(["soft_prompt", "soft_prompt_after", "prefix_tuning"]))
def test_virtual_tokens_are_live_in_generation(name: str, architecture: str, tiny_model: TinyModel) -> None:
    """Other virtual tokens give another text: they are not dropped (huggingface/peft#2134)."""
    base = load_tiny(tiny_model(architecture))
    rows = encoded(base)
    adapted = build(name, {}).adapt(base, examples(), 0)
    zero_shot = write_texts(build("zero_shot", {}).adapt(base, [], 0), base, rows, 8)
    with torch.no_grad():
        next(iter(adapted.state().values())).mul_(-3)
    assert write_texts(adapted, base, rows, 8) != zero_shot


def prompt_of(base: models.BaseModel, method: Method, instruction: str, **fields: str) -> str:
    prompting = method.adapt(base, [], 0).prompting
    prompter = Prompter(
        base.tokenizer, PromptSpec(instruction=instruction, cue="TL;DR:"), max_new_tokens=4, prompting=prompting
    )
    [row], _ = prompter.encode([Example("d", "the paper is short", ("",), "g", fields)], with_target=False)
    return str(base.tokenizer.decode(row.prompt))


def test_without_the_instruction_the_prompt_holds_none(tiny_model: TinyModel) -> None:
    base = load_tiny(tiny_model("qwen2"))
    dropped, kept = build("soft_prompt", {"keep_instruction": False}), build("soft_prompt", {})
    assert prompt_of(base, kept, "Summarize this.") == "Summarize this.\n\nthe paper is short\n\nTL;DR:"
    assert prompt_of(base, dropped, "Summarize this.") == "\n\nthe paper is short\n\nTL;DR:"


def test_fields_of_a_dropped_instruction_stay(tiny_model: TinyModel) -> None:
    """Two questions about one document remain two prompts."""
    base = load_tiny(tiny_model("qwen2"))
    method = build("soft_prompt", {"keep_instruction": False})
    text = prompt_of(base, method, "The {aspect} of {year}, the {aspect}.", aspect="{result}", year="2020", result="x")
    assert text == "{result} 2020\n\nthe paper is short\n\nTL;DR:"


def test_a_dropped_instruction_is_dropped_after_restoring_too(tiny_model: TinyModel, tmp_path: Path) -> None:
    base = load_tiny(tiny_model("qwen2"))
    method = build("soft_prompt", {"keep_instruction": False})
    adapted = method.adapt(base, [], 0)
    adapted.save(tmp_path)
    assert (
        method.restore(base, tmp_path).prompting
        == adapted.prompting
        != build("soft_prompt", {}).adapt(base, [], 0).prompting
    )


@pytest.mark.parametrize("name", ["soft_prompt", "prefix_tuning"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda tokens: tokens[:, :-1],
        lambda tokens: tokens[0],
        lambda tokens: tokens[:0],
        lambda tokens: tokens.long(),
        lambda tokens: tokens * float("nan"),
        lambda tokens: torch.zeros(4097, tokens.shape[1]),
    ],
)
def test_virtual_tokens_of_strangers_are_looked_at(
    name: str, spoil: Callable[[torch.Tensor], torch.Tensor], tiny_model: TinyModel, tmp_path: Path
) -> None:
    base, method = load_tiny(tiny_model("llama")), build(name, {"num_virtual_tokens": 3})
    method.adapt(base, [], 0).save(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    if name == "prefix_tuning":  # its shape is that of the model
        (tmp_path / "adapter_config.json").write_text("[")
        assert len(method.restore(load_tiny(tiny_model("llama")), tmp_path).state()) == 1
    tokens = load_file(path)["prompt_embeddings"]
    save_file({"prompt_embeddings": spoil(tokens).contiguous()}, path)
    with pytest.raises(
        UserError, match=r"adapter_model.safetensors: virtual tokens (of the shape|that are not finite)"
    ):
        method.restore(load_tiny(tiny_model("llama")), tmp_path)


def test_residual_starts_at_the_text_plus_a_vector_of_variance_one(tiny_model: TinyModel) -> None:
    base = load_tiny(tiny_model("qwen2"))
    plain = adapt(base, {})
    adapted = adapt(base, BOTTLENECK)
    assert torch.equal(adapted.prompt_VD, plain.prompt_VD)
    added_VD = embeddings_of(adapted) - embeddings_of(plain)
    torch.testing.assert_close(added_VD.mean(1), torch.zeros(20), atol=1e-5, rtol=0)
    torch.testing.assert_close(added_VD.var(1, correction=0), torch.ones(20), atol=1e-2, rtol=0)  # the norm's epsilon


@dataclass
class ReferenceNetwork:
    """The same network, built of torch's modules."""

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
        added_VD: torch.Tensor = layers(tokens_VD)
        return tokens_VD + added_VD


def test_residual_is_the_papers_network_and_all_of_it_trains(tiny_model: TinyModel) -> None:
    base = load_tiny(tiny_model("qwen2"))
    adapted = adapt(base, BOTTLENECK)
    start = {name: tensor.detach().clone() for name, tensor in adapted.state().items()}
    train(adapted, encoded(base, 4))
    assert len(start) == 7
    assert all(not torch.equal(tensor, start[name]) for name, tensor in adapted.state().items())
    torch.testing.assert_close(embeddings_of(adapted), ReferenceNetwork(adapted.state())(adapted.prompt_VD))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_folding_the_network_changes_no_logits(architecture: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    """The artefact is a plain soft prompt, and so is the model that generates."""
    base = load_tiny(tiny_model(architecture))
    method = build("soft_prompt", BOTTLENECK)
    adapted = adapt(base, BOTTLENECK)
    train(adapted, encoded(base, 4))
    tuned = logits(adapted, encoded(base, 4))
    assert not torch.allclose(embeddings_of(adapted), adapted.prompt_VD)
    adapted.save(tmp_path)
    adapted.merge()
    assert list(adapted.state()) == ["prompt_embeddings"]
    assert torch.equal(logits(adapted, encoded(base, 4)), tuned)
    assert torch.equal(logits(method.restore(base, tmp_path), encoded(base, 4)), tuned)
    assert {path.name for path in tmp_path.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


def test_other_seed_other_network(tiny_model: TinyModel) -> None:
    base = load_tiny(tiny_model("qwen2"))
    first, again, other = (build("soft_prompt", BOTTLENECK).adapt(base, [], seed).state() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["network.up.weight"], other["network.up.weight"])
