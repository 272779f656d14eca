"""Loaded tiny models: each folder is read once, and every test gets a copy of its own."""

import copy
import functools
from pathlib import Path

import torch

from tuneoff import models
from tuneoff.spec import ModelSpec

CPU = torch.device("cpu")


def load_tiny(folder: Path, dtype: torch.dtype = torch.float32) -> models.BaseModel:
    """What `models.load_model` returns, in a sixth of the time. The folder must not change."""
    return copy.deepcopy(_loaded(folder, dtype))


@functools.cache
def _loaded(folder: Path, dtype: torch.dtype) -> models.BaseModel:
    return models.load_model(ModelSpec(name=str(folder)), CPU, dtype)
