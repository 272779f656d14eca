"""What every entry of METHODS guarantees, over several architectures."""

import dataclasses
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from method_helpers import TRAINED, TinyModel, encoded, examples, logits, train, write_texts

from support.tiny_bases import CPU, load_tiny
from tiny import pairs
from tuneoff import models
from tuneoff.engine.batching import split_micro_batches
from tuneoff.engine.loss import collate, count_virtual_tokens, target_loss
from tuneoff.errors import UserError
from tuneoff.export.formats import FORMATS
from tuneoff.methods import METHODS, DoRA, LoRA, RsLoRA, build, defaults
from tuneoff.methods.base import seed_everything
from tuneoff.prompts import Encoded
from tuneoff.spec import ModelSpec


@pytest.mark.parametrize(("name", "architecture"), pairs(METHODS))
def test_only_declared_parameters_move(name: str, architecture: str, tiny_model: TinyModel) -> None:
    base = load_tiny(tiny_model(architecture))
    adapted = build(name, {}).adapt(base, examples(), 0)
    declared = {id(tensor) for tensor in adapted.state().values()}
    before = {key: tensor.clone() for key, tensor in adapted.model.named_parameters()}
    start = {key: tensor.detach().clone() for key, tensor in adapted.state().items()}
    rows = encoded(base)
    if not METHODS[name].trains:
        assert not declared
        assert not any(parameter.requires_grad for parameter in adapted.model.parameters())
        return
    train(adapted, rows)
    for key, tensor in adapted.model.named_parameters():
        assert tensor.requires_grad == (id(tensor) in declared)
        if id(tensor) not in declared:
            assert torch.equal(tensor, before[key]), key
    moved = [not torch.equal(tensor, start[key]) for key, tensor in adapted.state().items()]
    assert sum(moved) >= 0.5 * len(moved)  # GPT-2's unused positions and the like do not move


@pytest.mark.parametrize(("name", "architecture"), pairs(TRAINED))
def test_saved_and_restored_gives_the_same_logits(
    name: str, architecture: str, tiny_model: TinyModel, tmp_path: Path
) -> None:
    method = build(name, {})
    base = load_tiny(tiny_model(architecture))
    rows = encoded(base)
    adapted = method.adapt(base, examples(), 0)
    untrained = logits(adapted, rows)
    train(adapted, rows)
    expected = logits(adapted, rows)
    assert not torch.allclose(expected, untrained)
    assert adapted.save(tmp_path) in {"peft", "transformers", "tensors", "embeddings"}
    restored = method.restore(load_tiny(tiny_model(architecture)), tmp_path)
    restored.train_mode(False)
    assert torch.equal(logits(restored, rows), expected)
    assert not list(tmp_path.rglob("*.bin")) + list(tmp_path.rglob("*.pt"))  # no pickle


@pytest.mark.parametrize(
    ("name", "architecture"), pairs(["lora", "dora", "rslora", "ia3", "soft_prompt", "prefix_tuning"])
)
def test_artefact_loads_in_peft_with_the_same_logits(
    name: str, architecture: str, tiny_model: TinyModel, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = load_tiny(tiny_model(architecture))
    rows = encoded(base)
    adapted = build(name, {}).adapt(base, examples(), 0)
    train(adapted, rows)
    adapted.save(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tiny_model(architecture), dtype=torch.float32)
    theirs = PeftModel.from_pretrained(plain, tmp_path).eval()
    prefix = adapted.prefix()
    virtual = len(prefix) if isinstance(prefix, torch.Tensor) else 0  # keys and values have no logits
    together = logits(adapted, rows)
    start = 0
    for row in rows:
        with torch.inference_mode():
            all_logits = theirs(input_ids=torch.tensor([row.prompt + row.target])).logits[0]
        first = virtual + len(row.prompt) - 1
        expected = all_logits[first : first + len(row.target)]
        # fp32 products of other shapes are summed in another order: a few units in the sixth digit
        torch.testing.assert_close(logits(adapted, [row]), expected, atol=2e-4, rtol=1e-4)
        torch.testing.assert_close(together[start : start + len(row.target)], expected, atol=2e-4, rtol=1e-4)
        start += len(row.target)


@pytest.mark.parametrize(("name", "architecture"), pairs(METHODS))
def test_padding_and_other_rows_change_nothing(name: str, architecture: str, tiny_model: TinyModel) -> None:
    """A row gives the same in a padded batch (right in training, left in generation) and alone."""
    base = load_tiny(tiny_model(architecture))
    rows = encoded(base)
    adapted = build(name, {}).adapt(base, examples(), 0)
    if METHODS[name].trains:
        train(adapted, rows)
    together = logits(adapted, rows)
    alone = torch.cat([logits(adapted, [row]) for row in rows])
    torch.testing.assert_close(together, alone, atol=2e-4, rtol=1e-4)
    single = [write_texts(adapted, base, [row], 6)[0] for row in rows]
    assert write_texts(adapted, base, rows, 6) == single


@pytest.mark.parametrize("name", METHODS)
def test_beams_write_new_text_only(name: str, tiny_model: TinyModel) -> None:
    base = load_tiny(tiny_model("qwen2"))
    rows = encoded(base, 3)
    adapted = build(name, {}).adapt(base, examples(), 0)
    adapted.train_mode(False)
    if name == "prefix_tuning":
        with pytest.raises(UserError, match="set --num-beams 1"):
            write_texts(adapted, base, rows, 5, beams=2)
        return
    written = write_texts(adapted, base, rows, 5, beams=2)
    assert [row.id for row in written] == [row.id for row in rows]
    assert all(len(row.token_ids) <= 5 and not base.stop_ids & set(row.token_ids) for row in written)


@pytest.mark.parametrize("name", TRAINED)
def test_same_seed_same_start_other_seed_other_start(name: str, tiny_model: TinyModel) -> None:
    def state(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(12345 + seed)  # earlier draws must not matter
        adapted = build(name, {}).adapt(load_tiny(tiny_model("qwen2")), [], seed)
        return {key: tensor.detach() for key, tensor in adapted.state().items()}

    first, again, other = state(0), state(0), state(1)
    assert all(torch.equal(first[key], again[key]) for key in first)
    if name == "lora":
        assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", TRAINED)
def test_the_loss_decreases_in_bf16_too(name: str, tiny_model: TinyModel) -> None:
    base = load_tiny(tiny_model("qwen2"), torch.bfloat16)
    rows = encoded(base)
    adapted = build(name, {}).adapt(base, examples(), 0)
    before = float(target_loss(adapted, collate(rows, 0, CPU)).detach())
    train(adapted, rows, steps=6)
    assert float(target_loss(adapted, collate(rows, 0, CPU)).detach()) < before


@pytest.mark.parametrize("name", TRAINED)
def test_the_gradient_does_not_depend_on_micro_batches(name: str, tiny_model: TinyModel) -> None:
    base = load_tiny(tiny_model("gpt_neo"))
    rows = encoded(base)
    adapted = build(name, {"lora_dropout": 0.0} if name == "lora" else {}).adapt(base, examples(), 0)
    adapted.train_mode(False)
    targets = sum(len(row.target) for row in rows)

    def gradient(micro_batches: Sequence[Sequence[Encoded]]) -> list[torch.Tensor]:
        for tensor in adapted.state().values():
            tensor.grad = None
        for rows in micro_batches:
            (target_loss(adapted, collate(rows, 0, CPU)) / targets).backward()
        return [tensor.grad.clone() for tensor in adapted.state().values() if tensor.grad is not None]

    micro_batches = split_micro_batches(rows, 100, count_virtual_tokens(adapted), 1)
    assert len(micro_batches) > 1
    for whole, part in zip(gradient([rows]), gradient(micro_batches), strict=True):
        torch.testing.assert_close(part, whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_declares_itself(name: str) -> None:
    method = METHODS[name]
    assert method.name == name
    assert method.title
    assert method.source
    fields = {field.name for field in dataclasses.fields(method)}
    assert set(method.search) <= fields
    assert set(defaults(name)) == fields
    if method.trains:
        low, high = method.search["learning_rate"]
        rate = defaults(name)["learning_rate"]
        assert isinstance(rate, float)
        assert low <= rate <= high
        assert "weight_decay" in fields


@pytest.mark.parametrize("name", METHODS)
def test_every_number_has_bounds_that_its_searched_values_satisfy(name: str) -> None:
    method = METHODS[name]
    for field in dataclasses.fields(method):
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            for wrong in (-1, float("nan"), 1e9):
                with pytest.raises(UserError, match=rf"^{name}\.{field.name} = {wrong}: "):
                    build(name, {field.name: wrong})
    for key, values in {**method.search, **method.choices}.items():
        for value in values:
            assert build(name, {key: value}).changed_hyperparameters in ({key: value}, {})


@pytest.mark.parametrize("name", METHODS)
def test_instances_are_values(name: str) -> None:
    method, changed = METHODS[name](), {"learning_rate": 0.5} if METHODS[name].trains else {}
    assert method == build(name, {})
    assert hash(method) == hash(build(name, {}))
    assert method.hyperparameters == defaults(name)
    assert method.changed_hyperparameters == {}
    if changed:
        assert build(name, changed) != method
        assert build(name, changed).changed_hyperparameters == changed


def test_variants_with_equal_settings_differ() -> None:
    assert len({LoRA(r=4), DoRA(r=4), RsLoRA(r=4), LoRA(r=4)}) == 3


@pytest.mark.parametrize("name", METHODS)
def test_adapting_seeds_every_generator(name: str, tiny_model: TinyModel) -> None:
    drawn = []
    for before in (1, 2):
        seed_everything(before)
        build(name, {}).adapt(load_tiny(tiny_model("qwen2")), examples(), 7)
        drawn.append((random.random(), np.random.random(), torch.rand(1).item()))
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("name", METHODS)
def test_the_format_of_what_is_saved_is_known(name: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    base = load_tiny(tiny_model("qwen2"))
    method = build(name, {})
    adapted = method.adapt(base, examples(), 0)
    assert adapted.prefix() is None or adapted.suffix() is None
    assert count_virtual_tokens(adapted) == method.overhead_tokens
    saved = adapted.save(tmp_path)
    assert (FORMATS[saved].loading is not None) == method.trains
    assert (saved == "none") == (not list(tmp_path.iterdir()))
    restored = method.restore(load_tiny(tiny_model("qwen2")), tmp_path)
    assert restored.prompting == adapted.prompting


FROZEN_BASE = [name for name in TRAINED if name not in ("full", "last_layers")]


@pytest.mark.parametrize("name", FROZEN_BASE)
def test_dropout_of_a_base_that_does_not_learn_is_off(name: str, tiny_model: TinyModel) -> None:
    """One rule for all methods: a comparison must not include noise that only some of them have."""
    base = load_tiny(tiny_model("gpt2"))
    assert base.model.config.resid_pdrop > 0
    method = build(name, {"lora_dropout": 0.0} if "lora" in name or name == "dora" else {})
    adapted = method.adapt(base, [], 0)
    adapted.train_mode(True)
    rows = encoded(base)
    assert torch.equal(logits(adapted, rows), logits(adapted, rows))


@pytest.mark.parametrize("name", ["lora", "soft_prompt", "prefix_tuning"])
def test_an_adapter_names_its_base_as_the_user_typed_it(name: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    spec = ModelSpec(name=str(tiny_model("llama")), revision="v2")
    build(name, {}).adapt(models.load_model(spec, CPU, torch.float32), [], 0).save(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == (spec.name, "v2")
