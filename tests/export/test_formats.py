"""The formats of artefacts: each with weights has Python code that loads it."""

import ast
from typing import get_args

import pytest

from tuneoff.adapter_settings import VIRTUAL_TOKENS
from tuneoff.export.formats import EMBEDDINGS_FILE, FORMATS, TENSORS_FILE, ArtefactFormat
from tuneoff.results.run_record import Artefact

WITH_WEIGHTS = [name for name, kind in FORMATS.items() if kind.loading is not None]


def test_formats_are_those_of_records() -> None:
    assert set(FORMATS) == set(get_args(ArtefactFormat))
    assert set(get_args(Artefact.model_fields["format"].annotation)) == set(FORMATS)


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_the_loading_code_is_python_that_reads_the_folder(name: ArtefactFormat) -> None:
    code = FORMATS[name].loading
    assert code is not None
    assert "FOLDER" in code
    ast.parse(code)
    imported = {node.module for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)}
    assert not any(str(module).startswith("tuneoff") for module in imported)


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_all_but_whole_models_are_loaded_into_the_base(name: ArtefactFormat) -> None:
    code = FORMATS[name].loading or ""
    assert ("BASE" in code) == (name != "transformers")


def test_the_loading_code_names_the_files_that_are_written() -> None:
    assert f"FOLDER/{TENSORS_FILE}" in (FORMATS["tensors"].loading or "")
    assert f"FOLDER/{EMBEDDINGS_FILE}" in (FORMATS["embeddings"].loading or "")
    assert VIRTUAL_TOKENS in (FORMATS["embeddings"].loading or "")
