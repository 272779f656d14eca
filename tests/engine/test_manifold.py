"""Where virtual tokens lie: text is on the manifold of the embeddings, noise and another scale are off it."""

import pytest
import torch

from tiny import ARCHITECTURES
from tuneoff import models
from tuneoff.methods import build
from tuneoff.methods.embedding_alignment import place
from tuneoff.spec import ModelSpec

CPU = torch.device("cpu")
WORDS = 400  # of the tiny models


@pytest.fixture(params=ARCHITECTURES)
def base(request, tiny_model) -> models.BaseModel:
    return models.load_model(ModelSpec(name=str(tiny_model(request.param))), CPU, torch.float32)


@pytest.mark.parametrize("name", ["soft_prompt", "soft_prompt_after"])
def test_every_method_that_starts_from_text_starts_at_its_embeddings(base, name):
    adapted = build(name, {}).adapt(base, [], 0)
    tokens_VD = adapted.prefix() if adapted.prefix() is not None else adapted.suffix()
    found = place(tokens_VD, base.model.get_input_embeddings(), WORDS)
    assert found.nearest_cosine == pytest.approx(1, abs=1e-5)
    assert 0.5 < found.norm_ratio < 2


def test_it_is_what_a_plain_comparison_with_every_word_gives(base):
    tokens_VD = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    embedding = base.model.get_input_embeddings()
    with torch.no_grad():
        words_WD = embedding(torch.arange(WORDS))
    cosines_VW = torch.nn.functional.cosine_similarity(tokens_VD[:, None], words_WD[None], dim=-1)
    found = place(tokens_VD, embedding, WORDS)
    assert found.nearest_cosine == pytest.approx(float(cosines_VW.max(1).values.min()), rel=1e-5)
    assert found.norm_ratio == pytest.approx(
        float(tokens_VD.norm(dim=1).mean() / words_WD.norm(dim=1).mean()), rel=1e-5
    )


def test_a_large_vocabulary_is_looked_at_to_its_end():
    embedding = torch.nn.Embedding(20_001, 8)
    assert place(embedding.weight[-1:], embedding, 20_001).nearest_cosine == pytest.approx(1, abs=1e-5)
    assert place(embedding.weight[-1:], embedding, 20_000).nearest_cosine < 0.999


def test_noise_is_off_and_so_is_another_scale(base):
    embedding = base.model.get_input_embeddings()
    with torch.no_grad():
        text_VD = embedding(torch.arange(20, 40))
    assert place(10 * text_VD, embedding, WORDS).norm_ratio > 5
    noise_VD = torch.randn(20, 32, generator=torch.Generator().manual_seed(1))
    assert place(noise_VD, embedding, WORDS).nearest_cosine < 0.8  # 400 words in 32 dimensions: something is near
