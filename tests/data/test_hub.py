"""Hub names: what is requested from `datasets`, and one clear error if it fails. No test opens a connection."""

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tuneoff.data import load_dataset
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec


def install_fake_datasets(monkeypatch: pytest.MonkeyPatch, load_dataset: Any) -> None:
    class DatasetsError(Exception):
        pass

    exceptions = SimpleNamespace(DatasetsError=DatasetsError)
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset, exceptions=exceptions))


def test_cnn_dailymail_by_its_hub_name(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked: list[Any] = []

    made = datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict(
                {"article": [f"{split} {n}" for n in range(3)], "highlights": ["h"] * 3, "id": list("abc")}
            )
            for split in ("train", "validation", "test")
        }
    )

    def fake_load(*names: Any, **more: Any) -> Any:
        asked.append((names, more))
        return made

    monkeypatch.setattr(datasets, "load_dataset", fake_load)
    dataset = load_dataset(DataSpec(source="abisee/cnn_dailymail"))
    assert asked == [(("abisee/cnn_dailymail", "3.0.0"), {"revision": None})]
    assert [(e.id, e.document, e.references) for e in dataset.test] == [
        ("a", "test 0", ("h",)),
        ("b", "test 1", ("h",)),
        ("c", "test 2", ("h",)),
    ]
    load_dataset(DataSpec(source="abisee/cnn_dailymail", config="2.0.0"))
    assert asked[-1][0] == ("abisee/cnn_dailymail", "2.0.0")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install datasets.*--train-file"):
        load_dataset(DataSpec(source="someone/something"))


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (ConnectionError("no route"), "cannot be reached"),
        (FileNotFoundError("doesn't exist on the Hub"), "doesn't exist on the Hub"),
        (ValueError("Config name is missing.\nPick one of: ['a', 'b']"), r"Config name is missing\. Pick one of"),
        (RuntimeError("scripts are no longer supported"), "no longer supported"),
    ],
)
def test_what_datasets_raises_becomes_one_user_error(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, sentence: str
) -> None:
    def fake_load(*names: Any, **more: Any) -> Any:
        raise fault

    install_fake_datasets(monkeypatch, fake_load)
    with pytest.raises(UserError, match=sentence) as caught:
        load_dataset(DataSpec(source="someone/something"))
    assert "\n" not in str(caught.value)


def test_offline_means_no_connection() -> None:
    pytest.importorskip("datasets")
    program = """
import socket, sys
def refuse(*arguments):
    print("CONNECTION", arguments)
    raise OSError("no connection allowed")
socket.socket.connect = socket.getaddrinfo = refuse
from tuneoff.data import load_dataset
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec
try:
    load_dataset(DataSpec(source="someone/not-in-any-cache"))
except UserError as error:
    print("SENTENCE", error)
"""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert "CONNECTION" not in done.stdout
    assert "SENTENCE" in done.stdout
    assert "HF_HUB_OFFLINE" in done.stdout
