"""Tiny random models of several architectures and a handful of documents: offline, made in seconds."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tiny import config_of, example_row, write_tokenizer

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.pop("TUNEOFF_CACHE", None)  # tests have folders of their own


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny_model("llama")`: the folder of a random model of that architecture, made once a session."""
    made: dict[str, Path] = {}

    def make(architecture: str) -> Path:
        if architecture not in made:
            import torch
            from transformers import AutoModelForCausalLM

            folder = tmp_path_factory.mktemp(architecture)
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(config_of(architecture))
            with torch.no_grad():  # the usual initialisation is too small for two layers to show any difference
                for parameter in model.parameters():
                    if parameter.ndim >= 2:
                        parameter.mul_(5)
            model.save_pretrained(folder)
            write_tokenizer(folder)
            made[architecture] = folder
        return made[architecture]

    return make


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """JSONL files: 24 training, 8 validation and 8 test documents."""
    folder = tmp_path_factory.mktemp("data")
    files = {}
    for split, start, count in (("train", 0, 24), ("validation", 24, 8), ("test", 32, 8)):
        path = folder / f"{split}.jsonl"
        path.write_text("".join(json.dumps(example_row(start + index)) + "\n" for index in range(count)))
        files[split] = path
    return files
