"""The gradient of a batch in pieces, side by side, its beginning computed once, is that of one plain pass."""

import dataclasses

import pytest
import torch

from tiny import example_row, pairs
from tuneoff import models
from tuneoff.data import Example
from tuneoff.engine import gradients
from tuneoff.engine.gradients import Gradients
from tuneoff.engine.kernels.attention import use_causal_attention
from tuneoff.engine.loss import collate, target_loss
from tuneoff.engine.optimizer import MasterAdamW
from tuneoff.methods import METHODS, build
from tuneoff.prompts import Prompter
from tuneoff.spec import ModelSpec, PromptSpec

CPU = torch.device("cpu")
TRAINED = [name for name, method in METHODS.items() if method.trains]


# Every pair on three lanes; on one, which is the caller itself, a method of each kind will do.
CASES = [(*pair, 3) for pair in pairs(TRAINED)] + [(name, "llama", 1) for name in ("soft_prompt", "lora", "full")]


@pytest.fixture
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def adapted(folder, name, **hyperparameters):
    base = models.load_model(ModelSpec(name=str(folder)), CPU, torch.float32)
    use_causal_attention(base.model, CPU)
    rows = [example_row(index) for index in range(7)]
    examples = [Example(row["id"], row["document"], (row["summary"],), row["id"]) for row in rows]
    prompter = Prompter(base.tokenizer, PromptSpec(max_length=160), max_new_tokens=8, reserved_tokens=20)
    encoded, _ = prompter.encode(examples, with_target=True)
    return build(name, hyperparameters).adapt(base, examples, 0), encoded


def gradients_of(made, rows, tokens=200):
    """Of one batch through the engine."""
    optimizer = MasterAdamW(made.state().values(), 0.0)
    adding = Gradients(made, optimizer, pad_id=0, device=CPU, tokens=tokens)
    try:
        loss, counted = adding.add(rows)
    finally:
        adding.close()
    return loss, counted, [parameter.grad for parameter in optimizer.parameters]


@pytest.mark.parametrize(("name", "architecture", "threads"), CASES, indirect=["threads"])
def test_pieces_and_a_shared_beginning_change_nothing(tiny_model, name, architecture, threads):
    made, rows = adapted(tiny_model(architecture), name, **({"lora_dropout": 0.0} if name == "lora" else {}))
    made.train_mode(False)  # no dropout: two ways of computing the same
    loss, counted, mine = gradients_of(made, rows)
    for tensor in made.state().values():
        tensor.grad = None
    batch = collate(rows, 0, CPU)
    plain = target_loss(made, batch) / len(batch.targets_N)
    plain.backward()
    assert loss == pytest.approx(float(plain.detach()), rel=1e-5)
    assert counted == batch.tokens
    theirs = [tensor.grad for tensor in made.state().values() if tensor.requires_grad]
    assert len(mine) == len(theirs)
    for one, other in zip(mine, theirs, strict=True):
        # fp32 sums of other shapes and orders; the largest gradients here are about 1
        torch.testing.assert_close(
            one if one is not None else torch.zeros(1), other if other is not None else torch.zeros(1),
            rtol=1e-3, atol=2e-5,
        )  # fmt: skip


def test_the_beginning_is_computed_once(tiny_model, monkeypatch):
    made, rows = adapted(tiny_model("llama"), "full")
    seen = []
    real = gradients.collate
    monkeypatch.setattr(
        gradients, "collate", lambda piece, *rest: seen.extend(len(row.prompt) for row in piece) or real(piece, *rest)
    )
    gradients_of(made, rows)
    whole = sum(len(row.prompt) for row in rows)
    common = min(range(len(rows[0].prompt)), key=lambda place: len({row.prompt[place] for row in rows}) == 1)
    assert common >= 8
    shortest = min(len(row.prompt) for row in rows)  # which shows whether the model draws random numbers
    assert sum(seen) == shortest + whole - common * len(rows)


@pytest.mark.parametrize("name", ["full", "lora", "soft_prompt"])
def test_threads_do_not_change_a_bit(tiny_model, name):
    """Ten times the same batch on three lanes, dropout masks and all."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        results = []
        for _ in range(10):
            made, rows = adapted(tiny_model("llama"), name)
            made.train_mode(True)
            results.append(gradients_of(made, rows, tokens=300))
    finally:
        torch.set_num_threads(before)
    for loss, _, found in results[1:]:
        assert loss == results[0][0]
        assert all(torch.equal(one, other) for one, other in zip(found, results[0][2], strict=True))


def test_a_model_that_draws_from_torchs_generator_goes_piece_by_piece(tiny_model, monkeypatch):
    made, rows = adapted(tiny_model("gpt2"), "full")
    made.model.train()
    assert any(isinstance(module, torch.nn.Dropout) and module.p for module in made.model.modules())
    asked = []
    real = gradients.Lanes.map

    def watched(self, work, items, *, alone=False):
        asked.append(alone)
        return real(self, work, items, alone=alone)

    monkeypatch.setattr(gradients.Lanes, "map", watched)
    gradients_of(made, rows)
    assert asked == [True]
    made.model.eval()
    gradients_of(made, [dataclasses.replace(row) for row in rows])
    assert asked[1:] == [False]


def test_the_number_of_threads_changes_no_dropout_mask(tiny_model):
    """Losses with dropout agree as far as sums in another order let them: with other masks they would not."""
    losses = {}
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            made, rows = adapted(tiny_model("llama"), "lora", lora_dropout=0.5)
            with torch.no_grad():  # LoRA begins at zero, where a mask changes nothing
                for name, tensor in made.state().items():
                    if "lora_B" in name:
                        tensor.normal_(generator=torch.Generator().manual_seed(len(name)))
            made.train_mode(True)
            losses[threads] = gradients_of(made, rows)[0]
        finally:
            torch.set_num_threads(before)
    assert losses[2] == pytest.approx(losses[1], rel=1e-5)
    assert losses[3] == pytest.approx(losses[1], rel=1e-5)
    made.train_mode(True)
    assert gradients_of(made, rows)[0] != pytest.approx(losses[1], rel=1e-3), "the masks change nothing here"
