"""The gradient from concurrent micro-batches and a shared prefix is that of one forward and backward pass."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from support.tiny_bases import CPU, load_tiny
from tiny import example_row, pairs
from tuneoff.data import Example
from tuneoff.engine import batching, gradients, parallel
from tuneoff.engine.gradients import GradientAccumulator
from tuneoff.engine.kernels.attention import use_causal_attention
from tuneoff.engine.loss import collate, target_loss
from tuneoff.engine.optimizer import MasterAdamW
from tuneoff.engine.parallel import ParallelWorkers
from tuneoff.methods import METHODS, build
from tuneoff.prompts import Prompter
from tuneoff.spec import PromptSpec

TRAINED = [name for name, method in METHODS.items() if method.trains]


# Every pair with three workers. With one worker, the caller, one method of each kind is enough.
CASES = pairs(TRAINED, 3) + [(name, "llama", 1) for name in ("soft_prompt", "lora", "full")]


@pytest.fixture
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def adapted(folder, name, **hyperparameters):
    base = load_tiny(folder)
    use_causal_attention(base.model, CPU)
    rows = [example_row(index) for index in range(7)]
    examples = [Example(row["id"], row["document"], (row["summary"],), row["id"]) for row in rows]
    prompter = Prompter(base.tokenizer, PromptSpec(max_length=160), max_new_tokens=8, reserved_tokens=20)
    encoded, _ = prompter.encode(examples, with_target=True)
    return build(name, hyperparameters).adapt(base, examples, 0), encoded


def gradients_of(made, rows, tokens=200):
    """Loss, tokens and gradients of one batch."""
    optimizer = MasterAdamW(made.state().values(), 0.0)
    accumulator = GradientAccumulator(made, optimizer, pad_id=0, device=CPU, tokens=tokens)
    try:
        loss, counted = accumulator.add(rows)
    finally:
        accumulator.close()
    return loss, counted, [parameter.grad for parameter in optimizer.parameters]


@pytest.mark.parametrize(("name", "architecture", "threads"), CASES, indirect=["threads"])
def test_micro_batches_and_a_shared_prefix_change_nothing(
    tiny_model: Callable[[str], Path], name: str, architecture: str, threads: int
) -> None:
    made, rows = adapted(tiny_model(architecture), name, **({"lora_dropout": 0.0} if name == "lora" else {}))
    made.train_mode(False)  # no dropout
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


@pytest.mark.usefixtures("several_threads")
@pytest.mark.parametrize("name", ["full", "lora", "soft_prompt"])
def test_one_worker_with_larger_micro_batches_finds_the_same_gradients(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made, rows = adapted(tiny_model("llama"), name)
    made.train_mode(False)
    loss, _, several = gradients_of(made, rows)
    for tensor in made.state().values():
        tensor.grad = None
    monkeypatch.setattr(parallel, "has_one_worker", lambda _device, _dtype: True)
    counts: list[int] = []

    def split(*given):
        micro_batches = batching.split_micro_batches(*given)
        counts.append(len(micro_batches))
        return micro_batches

    monkeypatch.setattr(gradients, "split_micro_batches", split)
    alone, _, one = gradients_of(made, rows, tokens=1000)
    assert counts == [1]
    assert alone == pytest.approx(loss, rel=1e-5)
    for mine, other in zip(one, several, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=2e-5)  # as above


def test_the_shared_prefix_is_computed_once(tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    made, rows = adapted(tiny_model("llama"), "full")
    seen: list[int] = []

    def recorded(rows, *rest):
        seen.extend(len(row.prompt) for row in rows)
        return collate(rows, *rest)

    monkeypatch.setattr(gradients, "collate", recorded)
    gradients_of(made, rows)
    whole = sum(len(row.prompt) for row in rows)
    common = min(range(len(rows[0].prompt)), key=lambda index: len({row.prompt[index] for row in rows}) == 1)
    assert common >= 8
    shortest = min(len(row.prompt) for row in rows)  # the trial pass that detects random draws
    assert sum(seen) == shortest + whole - common * len(rows)


@pytest.mark.parametrize("name", ["full", "lora", "soft_prompt"])
def test_threads_do_not_change_a_bit(tiny_model: Callable[[str], Path], name: str) -> None:
    """The same batch ten times on three workers, with dropout."""
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


def test_a_model_that_draws_from_torchs_generator_is_computed_sequentially(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, rows = adapted(tiny_model("gpt2"), "full")
    made.model.train()
    assert any(isinstance(module, torch.nn.Dropout) and module.p for module in made.model.modules())
    asked = []
    real = ParallelWorkers.map

    def watched(self, work, items, indices=None, *, sequential=False):
        asked.append(sequential)
        return real(self, work, items, indices, sequential=sequential)

    monkeypatch.setattr(ParallelWorkers, "map", watched)
    gradients_of(made, rows)
    assert asked == [True]
    made.model.eval()
    gradients_of(made, [dataclasses.replace(row) for row in rows])
    assert asked[1:] == [False]


def with_dropout(folder):
    """A LoRA model in training whose dropout masks have an effect, and rows."""
    made, rows = adapted(folder, "lora", lora_dropout=0.5)
    with torch.no_grad():  # LoRA starts at zero, where they have none
        for name, tensor in made.state().items():
            if "lora_B" in name:
                tensor.normal_(generator=torch.Generator().manual_seed(len(name)))
    made.train_mode(True)
    return made, rows


@pytest.mark.parametrize("threads", [1, 2], indirect=True)
def test_a_batch_that_is_repeated_draws_the_same_masks(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """Also in the shared prefix, which the thread that repeats the batch may have been the last to compute."""
    made, rows = with_dropout(tiny_model("llama"))
    undisturbed = gradients_of(made, rows)
    made, rows = with_dropout(tiny_model("llama"))
    accumulator = GradientAccumulator(made, MasterAdamW(made.state().values(), 0.0), pad_id=0, device=CPU, tokens=200)
    real = gradients.batch_loss

    def fails(*_arguments):
        raise MemoryError

    monkeypatch.setattr(gradients, "batch_loss", fails)
    with pytest.raises(MemoryError):
        accumulator.add(rows)
    monkeypatch.setattr(gradients, "batch_loss", real)
    accumulator.begin_again(1)
    loss, _ = accumulator.add(rows)
    accumulator.close()
    assert loss == undisturbed[0]


def test_the_number_of_threads_changes_no_dropout_mask(tiny_model: Callable[[str], Path]) -> None:
    """With other dropout masks the losses would differ by more than the rounding error."""
    losses = {}
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            made, rows = with_dropout(tiny_model("llama"))
            losses[threads] = gradients_of(made, rows)[0]
        finally:
            torch.set_num_threads(before)
    assert losses[2] == pytest.approx(losses[1], rel=1e-5)
    assert losses[3] == pytest.approx(losses[1], rel=1e-5)
    made.train_mode(True)
    assert gradients_of(made, rows)[0] != pytest.approx(losses[1], rel=1e-3), (
        "the masks have no effect, so the test proves nothing"
    )
