"""Kept states of frozen blocks give the same losses, gradients and weights as states computed at each step."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

import tiny
from support.tiny_bases import load_tiny
from support.token_rows import CPU, VirtualTokens, random_rows, random_virtual_tokens
from support.training import short_training
from tuneoff import models
from tuneoff.engine import frozen_trunk, trainer
from tuneoff.engine.frozen_trunk import FrozenTrunk, make_frozen_trunk
from tuneoff.engine.loss import collate, target_loss
from tuneoff.methods import AdaptedModel, build
from tuneoff.prompts import Encoded
from tuneoff.results.run_record import Curve
from tuneoff.row_cache import RowCache

pytestmark = pytest.mark.usefixtures("several_threads")

ROWS = random_rows(((9, 3), (2, 6), (27, 1), (18, 4), (11, 5), (14, 2)), shared=4)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))


def adapt(base: models.BaseModel, name: str = "last_layers", **hyperparameters: int) -> AdaptedModel:
    return build(name, {"num_layers": 1} if name == "last_layers" else hyperparameters).adapt(base, [], 0)


def make(adapted: AdaptedModel, open_rows: Callable[[int], RowCache] | None = None) -> FrozenTrunk | None:
    return make_frozen_trunk(adapted, [(ROWS, True)], 0, CPU, open_rows)


def certain(adapted: AdaptedModel, open_rows: Callable[[int], RowCache] | None = None) -> FrozenTrunk:
    trunk = make(adapted, open_rows)
    assert trunk is not None
    return trunk


def gradients(adapted: AdaptedModel, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(adapted.state().values())))


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_loss_and_gradients_are_those_without_a_trunk(tiny_model: Callable[[str], Path], architecture: str) -> None:
    adapted = adapt(load_tiny(tiny_model(architecture)))
    expected = target_loss(adapted, collate(ROWS, 0, CPU))
    wanted = gradients(adapted, expected)
    trunk = certain(adapted)
    for kept in (0, len(ROWS)):  # computed first, then from memory
        assert trunk.kept == kept
        found = trunk.loss(ROWS, repeated=True)
        # fp32 products of other shapes are summed in another order: a few units in the sixth digit
        torch.testing.assert_close(found, expected, atol=0, rtol=1e-5)
        for mine, other in zip(gradients(adapted, found), wanted, strict=True):
            torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-3)
    trunk.close()
    assert torch.equal(target_loss(adapted, collate(ROWS, 0, CPU)), expected)


_SMALL = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
OTHERS = {
    "bloom": {"vocab_size": 400, "hidden_size": 32, "n_layer": 3, "n_head": 4},
    "falcon": _SMALL,
    "gemma2": {**_SMALL, "num_key_value_heads": 2, "intermediate_size": 64, "head_dim": 8},
    "mamba": {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 3},
    "mixtral": {**_SMALL, "num_key_value_heads": 2, "intermediate_size": 64, "num_local_experts": 4},
    "opt": {**_SMALL, "ffn_dim": 64, "max_position_embeddings": 128, "word_embed_proj_dim": 32},
    "rwkv": {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 3, "context_length": 128},
}


@pytest.mark.filterwarnings("ignore")  # of transformers, about kernels that are not installed
@pytest.mark.parametrize("kind", sorted(OTHERS))
def test_models_of_other_families_are_cut_rightly_or_not_at_all(kind: str) -> None:
    """Blocks that return tuples, add positions elsewhere, keep states or choose experts."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, **OTHERS[kind])
    model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    blocks = frozen_trunk.list_of_blocks(model)
    assert blocks is not None
    blocks[-1].requires_grad_(True)
    adapted = AdaptedModel(model)
    expected = target_loss(adapted, collate(ROWS, 0, CPU))
    trunk = make(adapted)
    assert (trunk is None) == (kind == "rwkv")  # its blocks return a state beside the output
    if trunk is not None:
        for _ in range(2):
            torch.testing.assert_close(trunk.loss(ROWS, repeated=True), expected, atol=0, rtol=1e-5)
        trunk.close()
    assert torch.equal(target_loss(adapted, collate(ROWS, 0, CPU)), expected)


def test_each_row_passes_the_frozen_blocks_once(tiny_model: Callable[[str], Path]) -> None:
    adapted = adapt(load_tiny(tiny_model("llama")))
    trunk = certain(adapted)
    seen: list[int] = []
    trunk._cut.frozen[0].get_submodule("mlp").register_forward_pre_hook(
        lambda _module, inputs: seen.append(inputs[0].shape[1])
    )
    for _ in range(3):
        trunk.loss(ROWS, repeated=True)
    assert sorted(seen) == sorted(len(row.prompt) + len(row.target) for row in ROWS)


@pytest.mark.parametrize("method", ["full", "lora", "ln_tuning", "soft_prompt"])
def test_a_method_that_changes_the_first_blocks_has_no_trunk(tiny_model: Callable[[str], Path], method: str) -> None:
    adapted = adapt(load_tiny(tiny_model("llama")), method)
    assert make(adapted) is None
    assert all("forward" not in block.__dict__ for block in frozen_trunk.list_of_blocks(adapted.model) or ())


def test_virtual_tokens_change_the_states_of_all_blocks(tiny_model: Callable[[str], Path]) -> None:
    adapted = adapt(load_tiny(tiny_model("llama")))
    tokens = random_virtual_tokens(adapted.model, 3)
    for changed in (VirtualTokens(adapted.model, before=tokens), VirtualTokens(adapted.model, after=tokens)):
        assert make_frozen_trunk(changed, [(ROWS, True)], 0, CPU) is None


def _computes_and_forgets(compute: Callable[..., Tensor], kept: list[Tensor]) -> Callable[..., Tensor]:
    """As a model whose other tensor is that of the last row it has seen."""

    def call(trunk: FrozenTrunk, row: Encoded) -> Tensor:
        states = compute(trunk, row)
        kept[:] = [kept[0] + 1]
        return states

    return call


def test_a_model_whose_blocks_pass_on_more_than_one_tensor_keeps_its_own_way(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the trunk would leave out is seen, because one row is computed in both ways."""
    adapted = adapt(load_tiny(tiny_model("llama")))
    first, last = adapted.model.model.layers
    kept: list[Tensor] = []
    below, above = first.forward, last.forward

    def first_forward(states: Tensor, **named: object) -> Tensor:
        kept[:] = [states]
        output: Tensor = below(states, **named)
        return output

    monkeypatch.setattr(first, "forward", first_forward)
    monkeypatch.setattr(last, "forward", lambda states, **named: above(states, **named) + kept[0])
    monkeypatch.setattr(FrozenTrunk, "_compute", _computes_and_forgets(FrozenTrunk._compute, kept))
    assert make(adapted) is None
    assert first.forward is first_forward


def test_with_dropout_below_the_cut_nothing_is_kept(tiny_model: Callable[[str], Path]) -> None:
    adapted = adapt(load_tiny(tiny_model("gpt2")))
    trunk = certain(adapted)
    adapted.model.train()
    trunk.loss(ROWS, repeated=True)
    assert trunk.kept == 0


def fit(adapted: AdaptedModel, scratch: Path, rows: RowCache | None = None) -> Curve:
    training = short_training(adapted, ROWS, ROWS[:3], scratch, rows)
    curve = training.fit()
    assert (training.reused_seconds > 0) == (rows is not None and len(rows) > 0 and rows._own is None)
    return curve


def test_a_training_with_a_trunk_is_the_training_without(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = fit(adapt(load_tiny(tiny_model("qwen2"))), tmp_path)
    monkeypatch.setattr(trainer, "make_frozen_trunk", lambda *_arguments: None)
    always = fit(adapt(load_tiny(tiny_model("qwen2"))), tmp_path)
    for mine, other in zip(once.train, always.train, strict=True):
        assert mine.loss == pytest.approx(other.loss, rel=1e-4)  # as above, after nine steps
    assert once.best_validation_loss == pytest.approx(always.best_validation_loss, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_where_states_are_kept_changes_no_bit(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    """Computed again, in memory, on disk, read by another run: the same losses and weights."""
    results = []
    for free, on_disk in ((0, False), (10**9, False), (0, True), (0, True)):
        monkeypatch.setattr(frozen_trunk, "free_bytes", lambda _device, free=free: free)
        adapted = adapt(load_tiny(tiny_model("qwen2"), dtype))
        curve = fit(adapted, tmp_path, RowCache("key") if on_disk else None)
        results.append((curve, [tensor.detach().clone() for tensor in adapted.state().values()]))
    for curve, weights in results[1:]:
        assert curve == results[0][0]
        assert all(torch.equal(*pair) for pair in zip(weights, results[0][1], strict=True))


def test_states_of_other_weights_on_disk_are_not_used(tiny_model: Callable[[str], Path]) -> None:
    adapted = adapt(load_tiny(tiny_model("llama")))
    rows = RowCache("key")
    trunk = certain(adapted, lambda _blocks: rows)
    trunk.loss(ROWS, repeated=True)
    trunk.close()
    assert len(rows) == len(ROWS)
    with torch.no_grad():
        next(iter(adapted.model.model.layers[0].parameters())).mul_(1.5)
    expected = target_loss(adapted, collate(ROWS, 0, CPU))
    trunk = certain(adapted, lambda _blocks: RowCache("key"))
    torch.testing.assert_close(trunk.loss(ROWS, repeated=True), expected, atol=0, rtol=1e-5)
    assert trunk.reused_seconds == 0
