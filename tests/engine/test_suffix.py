"""Virtual tokens after the prompt stand there, in every row, in training, in validation and in writing."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tiny import ARCHITECTURES
from tuneoff import models
from tuneoff.engine.generation import generate
from tuneoff.engine.loss import collate, target_loss
from tuneoff.engine.trainer import validation_loss
from tuneoff.methods import build
from tuneoff.methods.soft_prompt_after import Followed
from tuneoff.prompts import Encoded
from tuneoff.spec import GenerateSpec, ModelSpec

pytestmark = pytest.mark.usefixtures("several_threads")

CPU = torch.device("cpu")
VIRTUAL = 5


@pytest.fixture(params=ARCHITECTURES)
def base(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path]) -> models.BaseModel:
    return models.load_model(ModelSpec(name=str(tiny_model(request.param))), CPU, torch.float32)


def adapt(base: models.BaseModel):
    """With vectors that no text has, so that nothing but they can give what they give."""
    adapted = build("soft_prompt_after", {"num_virtual_tokens": VIRTUAL}).adapt(base, [], 0)
    with torch.no_grad():
        adapted.prompt_VD.copy_(torch.randn(adapted.prompt_VD.shape, generator=torch.Generator().manual_seed(1)))
    return adapted


def rows(*, shared: int = 0) -> list[Encoded]:
    """Rows of several lengths, longer than the tiny models' windows; the first `shared` ids are common to all."""
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, 50, (count,), generator=generator).tolist())

    first = draw(shared)
    lengths = ((9, 3), (2, 6), (27, 1), (18, 4))
    return [Encoded(str(place), first + draw(text), draw(answer), 0) for place, (text, answer) in enumerate(lengths)]


def by_hand(base: models.BaseModel, virtual_VD: torch.Tensor, row: Encoded) -> torch.Tensor:
    """Summed negative log likelihood of a row alone: embeddings of prompt, virtual tokens and target in line."""
    embed = base.model.get_input_embeddings()
    prompt, target = torch.tensor([row.prompt]), torch.tensor([row.target])
    line = torch.cat([embed(prompt), virtual_VD[None], embed(target)], dim=1)
    first = len(row.prompt) + len(virtual_VD) - 1
    predicted = base.model(inputs_embeds=line).logits[0, first : first + len(row.target)].log_softmax(-1)
    return -predicted.gather(1, target[0][:, None]).sum()


def test_loss_and_gradient_are_those_of_rows_in_line(base):
    adapted = adapt(base)
    expected = sum(by_hand(base, adapted.prompt_VD, row) for row in rows())
    [wanted] = torch.autograd.grad(expected, [adapted.prompt_VD])
    found = target_loss(adapted, collate(rows(), 0, CPU))
    [gradient] = torch.autograd.grad(found, [adapted.prompt_VD])
    # fp32 products of other shapes are summed in another order: a few units in the sixth digit
    torch.testing.assert_close(found, expected, atol=0, rtol=1e-5)
    torch.testing.assert_close(gradient, wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("shared", [0, 80])
def test_validation_sees_them(base, shared):
    """Also where the prompts begin alike and few-shot methods read that once."""
    adapted = adapt(base)
    some = rows(shared=shared)
    with torch.inference_mode():
        expected = sum(float(by_hand(base, adapted.prompt_VD, row)) for row in some) / sum(
            len(row.target) for row in some
        )
    assert validation_loss(adapted, some, pad_id=0, device=CPU, tokens=150) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shared", [0, 12])
def test_text_is_that_of_the_card(base, shared, tmp_path):
    """What the artefact's README.md tells to do writes the same, row by row."""
    adapted = adapt(base)
    assert adapted.save(tmp_path) == "embeddings"
    spec, stop_ids = GenerateSpec(max_new_tokens=8, batch_size=3), frozenset({0})
    written = generate(adapted, rows(shared=shared), spec, stop_ids=stop_ids, pad_id=0, device=CPU)
    virtual = load_file(tmp_path / "virtual_tokens.safetensors")["prompt_embeddings"]
    for row, ours in zip(rows(shared=shared), written, strict=True):
        text = base.model.get_input_embeddings()(torch.tensor([row.prompt]))
        line = torch.cat([text, virtual.to(text.dtype)[None]], dim=1)
        theirs = base.model.generate(
            inputs_embeds=line,
            attention_mask=torch.ones(line.shape[:2], dtype=torch.long),
            do_sample=False,
            max_new_tokens=8,
            eos_token_id=0,
            pad_token_id=0,
        )[0].tolist()
        assert list(ours.ids) == (theirs[: theirs.index(0)] if 0 in theirs else theirs)


def test_a_model_that_scales_its_input_in_place_leaves_them_as_they_are():
    from transformers import AutoModelForCausalLM, CTRLConfig

    model = AutoModelForCausalLM.from_config(CTRLConfig(vocab_size=50, n_embd=32, n_layer=1, n_head=4, dff=64)).eval()
    adapted = Followed(model, torch.nn.Parameter(torch.randn(3, 32)))
    before = adapted.prompt_VD.detach().clone()
    for some in (rows()[:1], rows()):
        generate(adapted, some, GenerateSpec(max_new_tokens=3), stop_ids=frozenset({0}), pad_id=0, device=CPU)
        assert torch.equal(adapted.prompt_VD, before)
