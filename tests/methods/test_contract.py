"""What every entry of METHODS promises, over several architectures."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch

from tiny import ARCHITECTURES, example_row, pairs, write_tokenizer
from tuneoff import models
from tuneoff.data import Example, group_id
from tuneoff.engine.batching import even_pieces
from tuneoff.engine.generation import generate
from tuneoff.engine.loss import collate, target_logits, target_loss, virtual_tokens
from tuneoff.engine.optimizer import MasterAdamW
from tuneoff.errors import UserError
from tuneoff.methods import METHODS, build, defaults
from tuneoff.prompts import Prompter
from tuneoff.spec import GenerateSpec, ModelSpec, PromptSpec

CPU = torch.device("cpu")
TRAINED = [name for name, method in METHODS.items() if method.trains]


def test_prefix_tuning_says_so_where_keys_are_forgotten(tiny_model):
    with pytest.raises(UserError, match="does not keep all keys and values"):
        build("prefix_tuning", {}).adapt(load(tiny_model("gemma3")), [], 0)


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_bitfit_says_so_where_there_are_no_biases(architecture, tiny_model):
    with pytest.raises(UserError, match="has no biases to tune; use ln_tuning or ia3"):
        build("bitfit", {}).adapt(load(tiny_model(architecture)), [], 0)


def examples(count: int = 5) -> list[Example]:
    rows = [example_row(index) for index in range(count)]
    return [Example(row["id"], row["document"], (row["summary"],), group_id(row["document"])) for row in rows]


def load(folder: Path, dtype: torch.dtype = torch.float32) -> models.BaseModel:
    return models.load_model(ModelSpec(name=str(folder)), CPU, dtype)


def encoded(base: models.BaseModel, count: int = 5):
    prompter = Prompter(base.tokenizer, PromptSpec(max_length=128), max_new_tokens=8, reserved_tokens=20)
    rows, too_long = prompter.encode(examples(count), with_target=True)
    assert not too_long
    return rows


def train(adapted, rows, steps: int = 3, rate: float = 1e-2) -> None:
    torch.manual_seed(0)
    adapted.train_mode(True)
    optimizer = MasterAdamW(adapted.state().values(), 0.0)
    for _ in range(steps):
        batch = collate(rows, 0, CPU)
        (target_loss(adapted, batch) / len(batch.targets_N)).backward()
        for place in range(len(optimizer.parameters)):
            optimizer.take(place)
        assert optimizer.step(rate, 1.0) > 0
    adapted.train_mode(False)


def logits(adapted, rows) -> torch.Tensor:
    with torch.inference_mode():
        return target_logits(adapted, collate(rows, 0, CPU))


@pytest.mark.parametrize(("name", "architecture"), pairs(METHODS))
def test_only_declared_parameters_move(name, architecture, tiny_model):
    base = load(tiny_model(architecture))
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
def test_saved_and_restored_gives_the_same_logits(name, architecture, tiny_model, tmp_path):
    method = build(name, {})
    base = load(tiny_model(architecture))
    rows = encoded(base)
    adapted = method.adapt(base, examples(), 0)
    untrained = logits(adapted, rows)
    train(adapted, rows)
    expected = logits(adapted, rows)
    assert not torch.allclose(expected, untrained)
    assert adapted.save(tmp_path) in {"peft", "transformers", "tensors", "embeddings"}
    restored = method.restore(load(tiny_model(architecture)), tmp_path)
    restored.train_mode(False)
    assert torch.equal(logits(restored, rows), expected)
    assert not list(tmp_path.rglob("*.bin")) + list(tmp_path.rglob("*.pt"))  # no pickle


@pytest.mark.parametrize(
    ("name", "architecture"), pairs(["lora", "dora", "rslora", "ia3", "soft_prompt", "prefix_tuning"])
)
def test_artefact_loads_in_peft_with_the_same_logits(name, architecture, tiny_model, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = load(tiny_model(architecture))
    rows = encoded(base)
    adapted = build(name, {}).adapt(base, examples(), 0)
    train(adapted, rows)
    adapted.save(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tiny_model(architecture), dtype=torch.float32)
    theirs = PeftModel.from_pretrained(plain, tmp_path).eval()
    prefix = adapted.prefix()
    virtual = len(prefix) if isinstance(prefix, torch.Tensor) else 0  # keys and values have no logits
    together = logits(adapted, rows)
    place = 0
    for row in rows:
        with torch.inference_mode():
            all_logits = theirs(input_ids=torch.tensor([row.prompt + row.target])).logits[0]
        first = virtual + len(row.prompt) - 1
        expected = all_logits[first : first + len(row.target)]
        # fp32 products of other shapes are summed in another order: a few units in the sixth digit
        torch.testing.assert_close(logits(adapted, [row]), expected, atol=2e-4, rtol=1e-4)
        torch.testing.assert_close(together[place : place + len(row.target)], expected, atol=2e-4, rtol=1e-4)
        place += len(row.target)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_lora_starts_as_the_base_and_merges(architecture, tiny_model):
    base = load(tiny_model(architecture))
    rows = encoded(base)
    expected = logits(build("zero_shot", {}).adapt(base, [], 0), rows)
    adapted = build("lora", {}).adapt(base, [], 0)
    adapted.train_mode(False)
    assert torch.equal(logits(adapted, rows), expected)
    assert adapted.details["target_modules"]
    assert not any("lm_head" in module for module in adapted.details["target_modules"])
    train(adapted, rows)
    tuned = logits(adapted, rows)
    assert not torch.allclose(tuned, expected)
    adapted.merge()
    torch.testing.assert_close(logits(adapted, rows), tuned, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_prompt_tokens_carry_no_loss(architecture, tiny_model):
    """The loss is the mean over the target's tokens, EOS included, and over nothing else."""
    base = load(tiny_model(architecture))
    rows = encoded(base, 3)
    adapted = build("zero_shot", {}).adapt(base, [], 0)
    expected = 0.0
    for row in rows:
        assert row.target[-1] == base.tokenizer.eos_token_id
        ids = torch.tensor([row.prompt + row.target])
        with torch.inference_mode():
            log_probabilities = base.model(input_ids=ids).logits[0].log_softmax(-1)
        for place, token in enumerate(row.target):
            expected -= float(log_probabilities[len(row.prompt) + place - 1, token])
    with torch.inference_mode():
        found = float(target_loss(adapted, collate(rows, 0, CPU)))
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("name", "architecture"), pairs(METHODS))
def test_padding_and_neighbours_change_nothing(name, architecture, tiny_model):
    """A row in a padded batch (right in training, left in generation) gives what it gives alone."""
    base = load(tiny_model(architecture))
    rows = encoded(base)
    adapted = build(name, {}).adapt(base, examples(), 0)
    if METHODS[name].trains:
        train(adapted, rows)
    together = logits(adapted, rows)
    alone = torch.cat([logits(adapted, [row]) for row in rows])
    torch.testing.assert_close(together, alone, atol=2e-4, rtol=1e-4)
    spec = GenerateSpec(max_new_tokens=6)
    options = {"stop_ids": base.stop_ids, "pad_id": 0, "device": CPU}
    batch = generate(adapted, rows, spec, **options)
    single = [generate(adapted, [row], spec, **options)[0] for row in rows]
    assert batch == single


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_text_equals_that_of_transformers(architecture, tiny_model):
    base = load(tiny_model(architecture))
    rows = encoded(base)
    adapted = build("zero_shot", {}).adapt(base, [], 0)
    written = generate(adapted, rows, GenerateSpec(max_new_tokens=10), stop_ids=base.stop_ids, pad_id=0, device=CPU)
    for row, ours in zip(rows, written, strict=True):
        ids = torch.tensor([row.prompt])
        theirs = base.model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, do_sample=False, pad_token_id=0
        )[0, len(row.prompt) :].tolist()
        stopped = 0 in theirs
        assert ours.stopped == stopped
        assert list(ours.ids) == (theirs[: theirs.index(0)] if stopped else theirs)


@pytest.mark.parametrize("name", METHODS)
def test_beams_write_new_text_only(name, tiny_model):
    base = load(tiny_model("qwen2"))
    rows = encoded(base, 3)
    adapted = build(name, {}).adapt(base, examples(), 0)
    adapted.train_mode(False)
    spec = GenerateSpec(max_new_tokens=5, num_beams=2)
    if name == "prefix_tuning":
        with pytest.raises(UserError, match="need --num-beams 1"):
            generate(adapted, rows, spec, stop_ids=base.stop_ids, pad_id=0, device=CPU)
        return
    written = generate(adapted, rows, spec, stop_ids=base.stop_ids, pad_id=0, device=CPU)
    assert [row.id for row in written] == [row.id for row in rows]
    assert all(len(row.ids) <= 5 and not base.stop_ids & set(row.ids) for row in written)


@pytest.mark.parametrize(("name", "architecture"), pairs(["soft_prompt", "soft_prompt_after", "prefix_tuning"]))
def test_virtual_tokens_are_live_in_generation(name, architecture, tiny_model):
    """Other virtual tokens, other text: they are not lost on the way (huggingface/peft#2134)."""
    base = load(tiny_model(architecture))
    rows = encoded(base)
    adapted = build(name, {}).adapt(base, examples(), 0)
    options = {"stop_ids": base.stop_ids, "pad_id": 0, "device": CPU}
    spec = GenerateSpec(max_new_tokens=8)
    zero_shot = generate(build("zero_shot", {}).adapt(base, [], 0), rows, spec, **options)
    with torch.no_grad():
        next(iter(adapted.state().values())).mul_(-3)
    assert generate(adapted, rows, spec, **options) != zero_shot


def test_soft_prompt_starts_from_the_text(tiny_model):
    base = load(tiny_model("llama"))
    method = build("soft_prompt", {"initial_prompt": "the paper", "num_virtual_tokens": 7})
    adapted = method.adapt(base, [], 0)
    ids = base.tokenizer("the paper", add_special_tokens=False)["input_ids"]
    wanted = (ids * 7)[:7]
    assert torch.equal(adapted.prompt_VD, base.model.get_input_embeddings().weight[wanted].float())


@pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name != "gemma3"])
def test_prefix_tuning_starts_as_the_text_in_front(architecture, tiny_model):
    """Before any step it is the base that has read the text: the same logits as with the text's tokens there."""
    base = load(tiny_model(architecture))
    adapted = build("prefix_tuning", {"initial_prompt": "the paper", "num_virtual_tokens": 7}).adapt(base, [], 0)
    ids = tuple((base.tokenizer("the paper", add_special_tokens=False)["input_ids"] * 7)[:7])
    rows = encoded(base)
    read = [dataclasses.replace(row, prompt=ids + row.prompt) for row in rows]
    expected = logits(build("zero_shot", {}).adapt(base, [], 0), read)
    torch.testing.assert_close(logits(adapted, rows), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", TRAINED)
def test_same_seed_same_start_other_seed_other_start(name, tiny_model):
    def state(seed):
        torch.manual_seed(12345 + seed)  # what was drawn before must not matter
        adapted = build(name, {}).adapt(load(tiny_model("qwen2")), [], seed)
        return {key: tensor.detach() for key, tensor in adapted.state().items()}

    first, again, other = state(0), state(0), state(1)
    assert all(torch.equal(first[key], again[key]) for key in first)
    if name == "lora":
        assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", TRAINED)
def test_bf16_learns_too(name, tiny_model):
    base = load(tiny_model("qwen2"), torch.bfloat16)
    rows = encoded(base)
    adapted = build(name, {}).adapt(base, examples(), 0)
    before = float(target_loss(adapted, collate(rows, 0, CPU)).detach())
    train(adapted, rows, steps=6)
    assert float(target_loss(adapted, collate(rows, 0, CPU)).detach()) < before


@pytest.mark.parametrize("name", TRAINED)
def test_pieces_leave_the_gradient_as_it_is(name, tiny_model):
    base = load(tiny_model("gpt_neo"))
    rows = encoded(base)
    adapted = build(name, {"lora_dropout": 0.0} if name == "lora" else {}).adapt(base, examples(), 0)
    adapted.train_mode(False)
    targets = sum(len(row.target) for row in rows)

    def gradient(pieces):
        for tensor in adapted.state().values():
            tensor.grad = None
        for piece in pieces:
            (target_loss(adapted, collate(piece, 0, CPU)) / targets).backward()
        return [tensor.grad.clone() for tensor in adapted.state().values() if tensor.grad is not None]

    pieces = even_pieces(rows, 100, virtual_tokens(adapted), 1)
    assert len(pieces) > 1
    for whole, part in zip(gradient([rows]), gradient(pieces), strict=True):
        torch.testing.assert_close(part, whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_declares_itself(name):
    method = METHODS[name]
    assert method.name == name
    assert method.title
    assert method.source
    fields = {field.name for field in dataclasses.fields(method)}
    assert set(method.search) <= fields
    assert set(defaults(name)) == fields
    if method.trains:
        low, high = method.search["learning_rate"]
        assert low <= defaults(name)["learning_rate"] <= high


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_last_layers_are_the_top_blocks_and_the_final_norm(architecture, tiny_model):
    base = load(tiny_model(architecture))
    adapted = build("last_layers", {"num_layers": 1}).adapt(base, [], 0)
    names = list(adapted.state())
    blocks = [name for name in names if ".1." in name]
    norms = [name for name in names if ".1." not in name]
    assert len(blocks) >= 8
    assert norms
    assert all("norm" in name or "ln_f" in name for name in norms)
    with pytest.raises(UserError, match="has 2 blocks"):
        build("last_layers", {"num_layers": 3}).adapt(base, [], 0)


@pytest.mark.parametrize("name", ["peft:VERA", "peft:LOHA", "peft:OFT", "peft:LORA"])
def test_any_type_of_peft_trains_saves_and_restores(name, tiny_model, tmp_path):
    method = build(name, {"r": 2} if name not in ("peft:VERA", "peft:OFT") else {})
    base = load(tiny_model("qwen2"))
    rows = encoded(base)
    untrained = logits(build("zero_shot", {}).adapt(load(tiny_model("qwen2")), [], 0), rows)
    adapted = method.adapt(base, examples(), 0)
    train(adapted, rows)
    expected = logits(adapted, rows)
    assert not torch.allclose(expected, untrained)
    adapted.save(tmp_path)
    restored = method.restore(load(tiny_model("qwen2")), tmp_path)
    restored.train_mode(False)
    assert torch.equal(logits(restored, rows), expected)


def test_types_that_peft_does_not_have_in_layers_are_refused():
    for name in ("peft:NOTHING", "peft:PROMPT_TUNING"):
        with pytest.raises(UserError, match="no such type among"):
            build(name, {})
    with pytest.raises(UserError, match="no hyper-parameter 'rr'"):
        build("peft:LOHA", {"rr": 2})


def test_what_peft_refuses_is_one_sentence(tiny_model):
    with pytest.raises(UserError, match="peft:LOHA: PEFT refuses this"):
        build("peft:LOHA", {"r": -1}).adapt(load(tiny_model("llama")), [], 0)


FROZEN_BASE = [name for name in TRAINED if name not in ("full", "last_layers")]


@pytest.mark.parametrize("name", FROZEN_BASE)
def test_dropout_of_a_base_that_does_not_learn_is_off(name, tiny_model):
    """By one rule for all methods: noise that some of them have and others have not would be compared too."""
    base = load(tiny_model("gpt2"))
    assert base.model.config.resid_pdrop > 0
    method = build(name, {"lora_dropout": 0.0} if "lora" in name or name == "dora" else {})
    adapted = method.adapt(base, [], 0)
    adapted.train_mode(True)
    rows = encoded(base)
    assert torch.equal(logits(adapted, rows), logits(adapted, rows))


def test_dropout_of_blocks_that_learn_is_on(tiny_model):
    base = load(tiny_model("gpt2"))
    adapted = build("last_layers", {"num_layers": 1}).adapt(base, [], 0)
    adapted.train_mode(True)
    below, top = base.model.transformer.h
    assert not any(module.training for module in below.modules())
    assert all(module.training for module in top.modules())
    assert not base.model.transformer.drop.training
    adapted.train_mode(False)
    assert not any(module.training for module in base.model.modules())


@pytest.mark.parametrize("kind", ["Bloom", "OPT"])
def test_of_the_norms_beside_the_blocks_the_final_one_is_tuned(kind, tmp_path):
    """BLOOM has one of the embeddings too; OPT names its final one before the blocks."""
    import transformers

    size = {"vocab_size": 400, "hidden_size": 32, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    if kind == "Bloom":
        config = transformers.BloomConfig(**size, n_layer=3, n_head=4)
    else:
        config = transformers.OPTConfig(
            **size, num_hidden_layers=3, num_attention_heads=4, ffn_dim=64, word_embed_proj_dim=32
        )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    adapted = build("last_layers", {"num_layers": 1}).adapt(load(tmp_path), [], 0)
    outside = {name.split(".")[-2] for name in adapted.state() if not re.search(r"\.(h|layers)\.", name)}
    assert outside == {"ln_f" if kind == "Bloom" else "final_layer_norm"}
    assert all(".2." in name for name in adapted.state() if re.search(r"\.(h|layers)\.", name))


def test_an_embedding_that_is_adapted_pads_as_before(tiny_model):
    base = load(tiny_model("llama"))
    adapted = build("lora", {"target_modules": ("embed_tokens", "q_proj")}).adapt(base, [], 0)
    assert base.pad_id == 0
    generate(
        adapted, encoded(base), GenerateSpec(max_new_tokens=2), stop_ids=base.stop_ids, pad_id=base.pad_id, device=CPU
    )


@pytest.mark.parametrize("name", ["full", "last_layers"])
def test_a_tuned_model_takes_the_place_of_the_base(name, tiny_model, tmp_path):
    base = load(tiny_model("llama"))
    method = build(name, {})
    method.adapt(base, [], 0).save(tmp_path)
    old = base.model
    assert method.restore(base, tmp_path).model is base.model
    assert {parameter.device.type for parameter in old.parameters()} == {"meta"}


def test_what_an_author_set_for_writing_does_not_act_on_beams(tiny_model):
    spec = GenerateSpec(max_new_tokens=8, num_beams=2)
    written = []
    for penalty in (1.0, 50.0):
        base = load(tiny_model("llama"))
        base.model.generation_config.repetition_penalty = penalty
        adapted = build("zero_shot", {}).adapt(base, [], 0)
        written.append(generate(adapted, encoded(base), spec, stop_ids=base.stop_ids, pad_id=0, device=CPU))
        assert base.model.generation_config.repetition_penalty == penalty
    assert written[0] == written[1]


@pytest.mark.parametrize("name", ["lora", "soft_prompt", "prefix_tuning"])
def test_an_adapter_names_its_base_as_it_was_typed(name, tiny_model, tmp_path):
    spec = ModelSpec(name=str(tiny_model("llama")), revision="v2")
    build(name, {}).adapt(models.load_model(spec, CPU, torch.float32), [], 0).save(tmp_path)
    told = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (told["base_model_name_or_path"], told["revision"]) == (spec.name, "v2")
