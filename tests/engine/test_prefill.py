"""Reading prompts in pieces, with what they share read once, gives what reading them at once gives."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tuneoff import models
from tuneoff.engine import generation, prefill
from tuneoff.engine.kernels.attention import use_causal_attention
from tuneoff.prompts import Encoded
from tuneoff.spec import GenerateSpec, ModelSpec

pytestmark = pytest.mark.usefixtures("several_threads")

CPU = torch.device("cpu")
ARCHITECTURES = ("gpt_neo", "gpt2", "llama", "qwen2", "gemma3")


@dataclasses.dataclass
class _Adapted:
    model: torch.nn.Module
    virtual_VD: torch.Tensor | None = None

    def prefix(self) -> torch.Tensor | None:
        return self.virtual_VD

    def suffix(self) -> None:
        return None


def _prompts(shared: int) -> list[Encoded]:
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, 50, (count,), generator=generator).tolist())

    first = draw(shared)
    return [Encoded(str(index), first + draw(count), (), 0) for index, count in enumerate((9, 2, 17, 5, 5))]


def _write(adapted: _Adapted, prompts: list[Encoded], *, at_once: bool) -> list[tuple[int, ...]]:
    spec = GenerateSpec(max_new_tokens=6, batch_size=3)
    with pytest.MonkeyPatch.context() as patch:
        if at_once:
            patch.setattr(prefill, "reads_in_pieces", lambda model: False)
        texts = generation.generate(adapted, prompts, spec, stop_ids=frozenset({1}), pad_id=0, device=CPU)
    return [row.ids for row in texts]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("virtual", [0, 4])
@pytest.mark.parametrize("shared", [0, 12])
def test_same_text_as_reading_at_once(
    tiny_model: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    virtual: int,
    shared: int,
) -> None:
    monkeypatch.setattr(prefill, "_PIECE", 24)  # several pieces in each batch
    base = models.load_model(ModelSpec(name=str(tiny_model(architecture))), CPU, torch.float32)
    width = base.model.get_input_embeddings().weight.shape[1]
    prefix = torch.randn(virtual, width, generator=torch.Generator().manual_seed(1)) if virtual else None
    adapted = _Adapted(base.model, prefix)
    prompts = _prompts(shared)
    assert _write(adapted, prompts, at_once=False) == _write(adapted, prompts, at_once=True)


def test_common_beginning_is_read_once(tiny_model: Callable[[str], Path]) -> None:
    base = models.load_model(ModelSpec(name=str(tiny_model("llama"))), CPU, torch.float32)
    seen: list[int] = []
    base.model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"].numel()),
        with_kwargs=True,
    )
    with torch.inference_mode():
        reader = prefill.Reader(_Adapted(base.model), _prompts(12), 0, CPU)
        assert seen == [12]
        reader.read(_prompts(12)[:1], 4)
    assert seen == [12, 9]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
def test_attention_without_masks_over_keys_read_before(
    tiny_model: Callable[[str], Path], architecture: str, dtype: torch.dtype
) -> None:
    """Queries that follow a shared beginning see all of it and nothing after themselves."""
    base = models.load_model(ModelSpec(name=str(tiny_model(architecture))), CPU, dtype)
    prompts = _prompts(12)

    def logits() -> torch.Tensor:
        with torch.inference_mode():
            return prefill.Reader(_Adapted(base.model), prompts, 0, CPU).read(prompts, 1).logits_BV

    usual = logits()
    assert use_causal_attention(base.model, CPU)
    close = 1e-5 if dtype == torch.float32 else 0.05  # sums in another order; bf16 has 8 bits
    torch.testing.assert_close(logits(), usual, rtol=close, atol=close)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_validation_loss_is_the_same_when_the_shots_are_read_once(
    tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    from tuneoff.engine import trainer

    base = models.load_model(ModelSpec(name=str(tiny_model(architecture))), CPU, torch.float32)
    rows = [dataclasses.replace(row, target=(7, 9, 1)) for row in _prompts(80)]

    class Learner(_Adapted):
        def train_mode(self, on: bool) -> None:
            self.model.train(on)

        def state(self) -> dict[str, torch.Tensor]:
            return {}

    def loss() -> float:
        return trainer.validation_loss(Learner(base.model), rows, pad_id=0, device=CPU, tokens=300)

    once = loss()
    monkeypatch.setattr(trainer, "read_beginning", lambda *args, **kwargs: None)
    assert once == pytest.approx(loss(), rel=1e-5)  # fp32 products of other shapes


def test_one_row_may_come_twice(tiny_model: Callable[[str], Path]) -> None:
    base = models.load_model(ModelSpec(name=str(tiny_model("llama"))), CPU, torch.float32)
    first, second, *_ = _prompts(0)
    once, twice = _write(_Adapted(base.model), [first, second], at_once=False), [first, second, first]
    assert _write(_Adapted(base.model), twice, at_once=False) == [*once, once[0]]


@pytest.mark.parametrize("kind", ["short_conv", "attention_and_state"])
def test_rows_leave_the_batch_of_a_model_with_a_state(kind: str) -> None:
    """Layers that keep a state beside keys and values, or in their place, lose the same rows."""
    from transformers import AutoModelForCausalLM, FalconH1Config, Lfm2Config

    size = {
        "vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    }  # fmt: skip
    config = (
        Lfm2Config(**size, layer_types=["conv", "full_attention"])
        if kind == "short_conv"
        else FalconH1Config(
            **size, head_dim=8, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_n_groups=1, mamba_d_state=8
        )
    )
    torch.manual_seed(0)
    adapted, prompts = _Adapted(AutoModelForCausalLM.from_config(config).eval()), _prompts(0)
    spec = GenerateSpec(max_new_tokens=8, batch_size=8)

    def write(some: list[Encoded], stop_ids: frozenset[int]) -> list[tuple[int, ...]]:
        return [row.ids for row in generation.generate(adapted, some, spec, stop_ids=stop_ids, pad_id=0, device=CPU)]

    whole = [write([prompt], frozenset({400}))[0] for prompt in prompts]
    ends = frozenset({whole[0][1], whole[1][2], whole[2][4]})  # so rows end at different times

    def until_end(ids: tuple[int, ...]) -> tuple[int, ...]:
        return next((ids[:place] for place, token in enumerate(ids) if token in ends), ids)

    expected = [until_end(ids) for ids in whole]
    assert len({len(ids) for ids in expected}) > 1
    assert write(prompts, ends) == expected


@pytest.mark.parametrize("most", [1, 2, 7, 8, 32, 64])
def test_batches_are_alike_and_come_in_pairs_where_rows_are_enough(most: int) -> None:
    for rows in range(200):
        for pieces in (1, 4):
            parts = generation._batches(rows, most, pieces)
            assert [place for part in parts for place in range(rows)[part]] == list(range(rows))
            sizes = {part.stop - part.start for part in parts}
            assert all(1 <= size <= most for size in sizes)
            assert not sizes or max(sizes) - min(sizes) <= 1
            fewest = -(-rows // most)
            assert len(parts) == (fewest + fewest % 2 if pieces > 1 and rows >= 16 and most >= 8 else fewest)
