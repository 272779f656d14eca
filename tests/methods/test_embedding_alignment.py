"""Text is on the manifold of the embeddings; noise and another scale are off it."""

import pytest
import torch
from method_helpers import TinyModel

from support.tiny_bases import load_tiny
from tiny import ARCHITECTURES
from tuneoff import models
from tuneoff.methods import build
from tuneoff.methods.embedding_alignment import measure_alignment

WORDS = 400  # of the tiny models


@pytest.fixture(params=ARCHITECTURES)
def base(request: pytest.FixtureRequest, tiny_model: TinyModel) -> models.BaseModel:
    return load_tiny(tiny_model(request.param))


@pytest.mark.parametrize("name", ["soft_prompt", "soft_prompt_after"])
def test_a_soft_prompt_starts_at_the_embeddings_of_its_text(base: models.BaseModel, name: str) -> None:
    adapted = build(name, {}).adapt(base, [], 0)
    tokens_VD = adapted.suffix() if adapted.prefix() is None else adapted.prefix()
    assert isinstance(tokens_VD, torch.Tensor)
    found = measure_alignment(tokens_VD, base.model.get_input_embeddings(), WORDS)
    assert found.nearest_cosine == pytest.approx(1, abs=1e-5)
    assert 0.5 < found.norm_ratio < 2


def test_it_equals_a_plain_comparison_with_every_word(base: models.BaseModel) -> None:
    tokens_VD = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    embedding = base.model.get_input_embeddings()
    with torch.no_grad():
        words_WD = embedding(torch.arange(WORDS))
    cosines_VW = torch.nn.functional.cosine_similarity(tokens_VD[:, None], words_WD[None], dim=-1)
    found = measure_alignment(tokens_VD, embedding, WORDS)
    assert found.nearest_cosine == pytest.approx(float(cosines_VW.max(1).values.min()), rel=1e-5)
    assert found.norm_ratio == pytest.approx(
        float(tokens_VD.norm(dim=1).mean() / words_WD.norm(dim=1).mean()), rel=1e-5
    )


def test_a_large_vocabulary_is_compared_to_its_end() -> None:
    embedding = torch.nn.Embedding(20_001, 8)
    assert measure_alignment(embedding.weight[-1:], embedding, 20_001).nearest_cosine == pytest.approx(1, abs=1e-5)
    assert measure_alignment(embedding.weight[-1:], embedding, 20_000).nearest_cosine < 0.999


def test_noise_and_another_scale_are_off_the_manifold(base: models.BaseModel) -> None:
    embedding = base.model.get_input_embeddings()
    with torch.no_grad():
        text_VD = embedding(torch.arange(20, 40))
    assert measure_alignment(10 * text_VD, embedding, WORDS).norm_ratio > 5
    noise_VD = torch.randn(20, 32, generator=torch.Generator().manual_seed(1))
    # With 400 words in 32 dimensions, one of them is always similar.
    assert measure_alignment(noise_VD, embedding, WORDS).nearest_cosine < 0.8
