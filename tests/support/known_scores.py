"""Scores from a known model: a mean for each method, documents that all methods share, seeds and chance."""

import zlib
from collections.abc import Callable, Mapping

import numpy as np

from tuneoff.study.executor import Job


def scores_of(method: str, seed: int, mean: float, documents: int, *, seed_sd: float = 1.0) -> list[float]:
    """Scores of one run. The mean over many seeds is about `mean`; a document is nearly as hard for every method."""
    hardness = np.random.default_rng(1).normal(0, 8, documents)
    hardness += np.random.default_rng(zlib.crc32(method.encode())).normal(0, 2, documents)
    own = np.random.default_rng([zlib.crc32(method.encode()), seed])
    shift = seed_sd * own.standard_normal() if method != "zero_shot" else 0.0
    found: list[float] = np.clip(mean + hardness + shift + own.normal(0, 1, documents), 0, 100).tolist()
    return found


def known_scores(means: Mapping[str, float], documents: int, *, seed_sd: float = 1.0) -> Callable[[Job], list[float]]:
    """Those of the jobs of a `FakeExecutor`."""

    def scores(job: Job) -> list[float]:
        name = job.spec.method.name
        return scores_of(name, job.spec.seed, means[name], documents, seed_sd=seed_sd)

    return scores
