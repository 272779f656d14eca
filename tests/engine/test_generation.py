"""Generated text is that of transformers, and does not depend on batches, threads or padding."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel

from support.tiny_bases import load_tiny
from support.token_rows import CPU, VirtualTokens, key_value_prefix, random_rows, random_virtual_tokens
from tiny import ARCHITECTURES
from tuneoff.engine.generation import GeneratedTokens, NotFinite, _generation_batches, generate
from tuneoff.engine.loss import VirtualTokenModel
from tuneoff.errors import UserError
from tuneoff.methods import AdaptedModel, build
from tuneoff.prompts import Encoded
from tuneoff.spec import GenerateSpec

pytestmark = pytest.mark.usefixtures("several_threads")

LENGTHS = ((9, 0), (2, 0), (17, 0), (5, 0), (5, 0))
NEVER = frozenset({400})  # not in the vocabulary of the tiny models


@pytest.fixture(params=ARCHITECTURES)
def model(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path]) -> PreTrainedModel:
    return load_tiny(tiny_model(request.param)).model


def write(
    adapted: VirtualTokenModel,
    prompts: Sequence[Encoded],
    stop_ids: frozenset[int] = NEVER,
    *,
    max_new_tokens: int = 8,
    batch_size: int = 3,
    num_beams: int = 1,
    progress: Callable[[int], None] | None = None,
) -> list[GeneratedTokens]:
    spec = GenerateSpec(max_new_tokens=max_new_tokens, batch_size=batch_size, num_beams=num_beams)
    return generate(adapted, prompts, spec, stop_ids=stop_ids, pad_id=0, device=CPU, progress=progress)


def token_ids(texts: Sequence[GeneratedTokens]) -> list[tuple[int, ...]]:
    return [text.token_ids for text in texts]


def written_by_transformers(
    model: nn.Module, stop_id: int, *, ids: Sequence[int] = (), embeddings_TD: Tensor | None = None, num_beams: int = 1
) -> tuple[int, ...]:
    """New tokens of one prompt without padding, before the first stop token."""
    inputs = {"input_ids": torch.tensor([ids])} if embeddings_TD is None else {"inputs_embeds": embeddings_TD[None]}
    width = len(ids) if embeddings_TD is None else len(embeddings_TD)
    output = model.generate(  # type: ignore[operator]
        **inputs,
        attention_mask=torch.ones((1, width), dtype=torch.long),
        do_sample=False,
        max_new_tokens=8,
        num_beams=num_beams,
        eos_token_id=stop_id,
        pad_token_id=0,
    )[0].tolist()
    new = output[len(ids) :]
    return tuple(new[: new.index(stop_id)] if stop_id in new else new)


def common_token(model: nn.Module) -> int:
    """A token that some text contains, but not as its first token: as stop token it ends rows at different times."""
    texts = token_ids(write(VirtualTokens(model), random_rows(LENGTHS)))
    return next(token for text in texts for token in text[1:] if all(token != other[0] for other in texts))


def test_greedy_text_is_that_of_transformers_for_each_prompt_alone(model: nn.Module) -> None:
    stop_id = common_token(model)
    texts = write(VirtualTokens(model), random_rows(LENGTHS), frozenset({stop_id}))
    expected = [written_by_transformers(model, stop_id, ids=row.prompt) for row in random_rows(LENGTHS)]
    assert token_ids(texts) == expected
    assert any(text.stopped for text in texts)


def test_text_does_not_depend_on_the_batch(model: nn.Module) -> None:
    adapted, prompts, stop_ids = VirtualTokens(model), random_rows(LENGTHS), frozenset({common_token(model)})
    alone = [write(adapted, [prompt], stop_ids)[0] for prompt in prompts]
    for batch_size in (1, 2, 5):
        assert write(adapted, prompts, stop_ids, batch_size=batch_size) == alone
    assert write(adapted, prompts[::-1], stop_ids) == alone[::-1]  # results keep the order of the prompts


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_beam_search_is_that_of_transformers(tiny_model: Callable[[str], Path], architecture: str) -> None:
    model = load_tiny(tiny_model(architecture)).model
    stop_id = common_token(model)
    texts = write(VirtualTokens(model), random_rows(LENGTHS), frozenset({stop_id}), num_beams=3)
    expected = [written_by_transformers(model, stop_id, ids=row.prompt, num_beams=3) for row in random_rows(LENGTHS)]
    assert token_ids(texts) == expected


@pytest.mark.parametrize("num_beams", [1, 2])
@pytest.mark.parametrize("where", ["before", "after"])
def test_virtual_tokens_act_like_embeddings_beside_the_prompt(model: nn.Module, where: str, num_beams: int) -> None:
    virtual_VD = random_virtual_tokens(model, 4)
    tokens = {where: virtual_VD}
    texts = write(VirtualTokens(model, **tokens), random_rows(LENGTHS), frozenset({0}), num_beams=num_beams)
    for row, text in zip(random_rows(LENGTHS), texts, strict=True):
        with torch.no_grad():
            prompt_TD = model.get_input_embeddings()(torch.tensor(row.prompt))  # type: ignore[operator]
        parts = [virtual_VD, prompt_TD] if where == "before" else [prompt_TD, virtual_VD]
        embeddings_TD = torch.cat(parts)
        assert text.token_ids == written_by_transformers(model, 0, embeddings_TD=embeddings_TD, num_beams=num_beams)


@pytest.mark.parametrize("architecture", ["gpt_neo", "gpt2", "llama", "qwen2"])
def test_keys_and_values_of_tokens_act_like_these_tokens(tiny_model: Callable[[str], Path], architecture: str) -> None:
    model = load_tiny(tiny_model(architecture)).model
    prompts = random_rows(LENGTHS, shared=12)
    rest = [Encoded(row.id, row.prompt[12:], (), 0) for row in prompts]
    prefix = key_value_prefix(model, prompts[0].prompt[:12])
    assert write(VirtualTokens(model, before=prefix), rest) == write(VirtualTokens(model), prompts)


@pytest.mark.parametrize("shared", [0, 12])
def test_saved_virtual_tokens_write_the_same_text_in_transformers(
    model: nn.Module, tiny_model: Callable[[str], Path], shared: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The steps that the README.md of the artefact describes."""
    base = load_tiny(tiny_model(request.node.callspec.params["model"]))
    adapted = build("soft_prompt_after", {"num_virtual_tokens": 5}).adapt(base, [], 0)
    with torch.no_grad():
        for parameter in adapted.state().values():
            parameter.copy_(random_virtual_tokens(base.model, 5))
    assert adapted.save(tmp_path) == "embeddings"
    texts = write(adapted, random_rows(LENGTHS, shared=shared), frozenset({0}))
    virtual_VD = load_file(tmp_path / "virtual_tokens.safetensors")["prompt_embeddings"]
    for row, text in zip(random_rows(LENGTHS, shared=shared), texts, strict=True):
        with torch.no_grad():
            prompt_TD = base.model.get_input_embeddings()(torch.tensor(row.prompt))
        embeddings_TD = torch.cat([prompt_TD, virtual_VD.to(prompt_TD.dtype)])
        assert text.token_ids == written_by_transformers(base.model, 0, embeddings_TD=embeddings_TD)


def test_a_model_that_scales_its_input_in_place_does_not_change_virtual_tokens() -> None:
    from transformers import AutoModelForCausalLM, CTRLConfig

    config = CTRLConfig(vocab_size=50, n_embd=32, n_layer=1, n_head=4, dff=64)
    model = AutoModelForCausalLM.from_config(config).eval()
    virtual_VD = random_virtual_tokens(model, 3)
    before = virtual_VD.clone()
    for prompts in (random_rows(LENGTHS)[:1], random_rows(LENGTHS)):
        write(VirtualTokens(model, after=virtual_VD), prompts, frozenset({0}), max_new_tokens=3)
        assert torch.equal(virtual_VD, before)


def test_beam_search_refuses_keys_and_values_as_prefix(tiny_model: Callable[[str], Path]) -> None:
    model = load_tiny(tiny_model("llama")).model
    with pytest.raises(UserError, match="--num-beams 1"):
        write(VirtualTokens(model, before=key_value_prefix(model, [5, 6])), random_rows(LENGTHS), num_beams=2)


def test_text_ends_before_the_stop_token_or_at_the_token_limit(tiny_model: Callable[[str], Path]) -> None:
    adapted = VirtualTokens(load_tiny(tiny_model("llama")).model)
    [prompt] = random_rows(LENGTHS)[:1]
    [limited] = write(adapted, [prompt])
    assert (len(limited.token_ids), limited.stopped, limited.id) == (8, False, prompt.id)
    stop_id = limited.token_ids[4]
    [ended] = write(adapted, [prompt], frozenset({stop_id}))
    assert ended.token_ids == limited.token_ids[: limited.token_ids.index(stop_id)]
    assert ended.stopped
    [at_once] = write(adapted, [prompt], frozenset({limited.token_ids[0]}))
    assert (at_once.token_ids, at_once.stopped) == ((), True)


@pytest.mark.parametrize("num_beams", [1, 2])
def test_progress_counts_finished_prompts(tiny_model: Callable[[str], Path], num_beams: int) -> None:
    seen: list[int] = []
    adapted = VirtualTokens(load_tiny(tiny_model("llama")).model)
    write(adapted, random_rows(LENGTHS), batch_size=2, num_beams=num_beams, progress=seen.append)
    assert seen == sorted(seen)
    assert (len(seen), seen[-1]) == (3, 5)


@pytest.mark.parametrize("num_beams", [1, 2])
def test_generation_settings_of_the_models_author_are_ignored(
    tiny_model: Callable[[str], Path], num_beams: int
) -> None:
    model = load_tiny(tiny_model("llama")).model
    prompts = random_rows(LENGTHS)
    expected = write(VirtualTokens(model), prompts, num_beams=num_beams)
    own = GenerationConfig(repetition_penalty=5.0, no_repeat_ngram_size=1)
    model.generation_config = own
    assert write(VirtualTokens(model), prompts, num_beams=num_beams) == expected
    assert model.generation_config is own


def test_the_same_prompt_may_occur_twice(tiny_model: Callable[[str], Path]) -> None:
    adapted = VirtualTokens(load_tiny(tiny_model("llama")).model)
    first, second, *_ = random_rows(LENGTHS)
    once = write(adapted, [first, second])
    assert write(adapted, [first, second, first]) == [*once, once[0]]


@pytest.mark.parametrize("kind", ["short_conv", "attention_and_state"])
def test_ended_rows_leave_the_batch_of_a_model_with_a_state(kind: str) -> None:
    """Layers that keep a state besides keys and values, or instead of them, must drop the same rows."""
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
    adapted, prompts = VirtualTokens(AutoModelForCausalLM.from_config(config).eval()), random_rows(LENGTHS)
    whole = [token_ids(write(adapted, [prompt], batch_size=8))[0] for prompt in prompts]
    stop_ids = frozenset({whole[0][1], whole[1][2], whole[2][4]})  # rows end at different times

    def until_end(ids: tuple[int, ...]) -> tuple[int, ...]:
        return next((ids[:index] for index, token in enumerate(ids) if token in stop_ids), ids)

    expected = [until_end(ids) for ids in whole]
    assert len({len(ids) for ids in expected}) > 1
    assert token_ids(write(adapted, prompts, stop_ids, batch_size=8)) == expected


@pytest.mark.parametrize("batch_size", [1, 2, 7, 8, 32, 64])
def test_batches_have_similar_sizes_and_come_in_pairs_where_rows_suffice(batch_size: int) -> None:
    for rows in range(200):
        for multiple in (1, 4):
            batches = _generation_batches(rows, batch_size, multiple)
            assert [index for batch in batches for index in range(rows)[batch]] == list(range(rows))
            sizes = {batch.stop - batch.start for batch in batches}
            assert all(1 <= size <= batch_size for size in sizes)
            assert not sizes or max(sizes) - min(sizes) <= 1
            fewest = -(-rows // batch_size)
            is_even = multiple > 1 and rows >= 16 and batch_size >= 8
            assert len(batches) == (fewest + fewest % 2 if is_even else fewest)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_no_text(
    tiny_model: Callable[[str], Path], value: float, num_beams: int
) -> None:
    """The largest of logits with a NaN is that NaN: without a check, it would be the token that is chosen."""
    model = load_tiny(tiny_model("llama")).model
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda _head, _inputs, logits: logits.index_fill(-1, torch.tensor([3]), value))
    with pytest.raises(NotFinite, match="not finite while the text of"):
        write(AdaptedModel(model), random_rows(LENGTHS), num_beams=num_beams)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_the_text_whose_logits_are_not_finite_is_named(tiny_model: Callable[[str], Path], num_beams: int) -> None:
    """All beams of a text are rows of the batch."""
    model, prompts = load_tiny(tiny_model("llama")).model, random_rows(LENGTHS)
    row = 1  # of the second longest text

    def break_one_row(_head: nn.Module, _inputs: object, logits_BTV: Tensor) -> Tensor:
        logits_BTV[row * num_beams : row * num_beams + 1] = float("nan")
        return logits_BTV

    model.get_output_embeddings().register_forward_hook(break_one_row)
    with pytest.raises(NotFinite, match=f"the text of {prompts[0].id} is generated"):
        write(AdaptedModel(model), prompts, num_beams=num_beams, batch_size=8)
