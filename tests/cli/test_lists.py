"""Several values of one flag, as a shell and as people write them."""

from pathlib import Path

import pytest

from tuneoff.cli.arguments import Piece, flag, word
from tuneoff.cli.lists import gather, is_data_file, split_named
from tuneoff.errors import UserError


def gathered(*pieces: Piece) -> list[str]:
    return [one for piece in gather(pieces, lambda: ("lora", "full", "zero_shot")) for one in piece.words]


def test_a_star_of_the_shell() -> None:
    found = gathered(flag("--train-file", "a.jsonl"), word("b.jsonl"), word("c.jsonl.gz"), flag("--epochs", "2"))
    assert found == [
        "--train-file",
        "a.jsonl",
        "--train-file",
        "b.jsonl",
        "--train-file",
        "c.jsonl.gz",
        "--epochs",
        "2",
    ]
    assert gathered(flag("--test-file", "a.csv"), word("b.csv")) == ["--test-file", "a.csv", "--test-file", "b.csv"]


def test_a_data_file_without_a_flag_is_training_data() -> None:
    assert gathered(word("emails.csv")) == ["--train-file", "emails.csv"]
    assert gathered(flag("--epochs", "2"), word("emails.csv")) == ["--epochs", "2", "--train-file", "emails.csv"]


@pytest.mark.parametrize(
    "pieces",
    [
        [flag("--train-file", "train.jsonl"), word("test.jsonl")],
        [flag("--train-file", "data/dev.jsonl"), word("data/train.jsonl")],
        [word("train.csv"), word("validation-2.csv")],
        [word("papers_train.csv"), word("papers_test.csv")],
        [flag("--test-file", "test-1.csv"), word("train.csv")],
    ],
)
def test_a_file_of_another_split_is_not_taken_for_this_one(pieces: list[Piece]) -> None:
    with pytest.raises(UserError, match=r"but its name says (test|validation|train); give each file its flag, here --"):
        gathered(*pieces)


@pytest.mark.parametrize(
    ("name", "split"),
    [("test.csv", "test"), ("a/TEST_1.json", "test"), ("dev.jsonl.gz", "validation"), ("val2.csv", "validation"),
     ("training.csv", "train"), ("papers_test.csv", "test"), ("my-dev-2.csv.gz", "validation"),
     ("test/emails.csv", None), ("train_test.csv", None),
     ("testimonials.csv", None), ("trainees.csv", None), ("a.csv", None)],
)  # fmt: skip
def test_split_in_a_name(name: str, split: str | None) -> None:
    assert split_named(name) == split


def test_lists_of_methods_models_and_fractions() -> None:
    assert gathered(flag("--methods", "lora,"), word("zero-shot")) == ["--methods", "lora,", "--methods", "zero-shot"]
    assert gathered(flag("--methods", "lora"), word("lora@r=64,full")) == [
        "--methods",
        "lora",
        "--methods",
        "lora@r=64,full",
    ]
    assert gathered(flag("--model", "a"), word("b")) == ["--model", "a", "--model", "b"]
    assert gathered(flag("--fractions", "0.1"), word("0.5"), word("1")) == ["--fractions", "0.1,0.5,1"]


def test_study_files_and_methods_keep_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").touch()
    for name in ("s.toml", "mine", "lora"):
        assert gathered(flag("--cue", "x"), word(name)) == ["--cue", "x", name]
        assert gathered(flag("--model", "x"), word(name)) == ["--model", "x", name]


def test_words_behind_a_text_need_quotes() -> None:
    with pytest.raises(UserError, match="needs quotes: --instruction 'Write a headline'"):
        gathered(flag("--instruction", "Write"), word("a"), word("headline"), flag("--epochs", "2"))


def test_names_of_data_files() -> None:
    assert all(map(is_data_file, ["a.csv", "b.JSONL", "c.csv.gz", "d.json.zst", "e.zip", "f.xlsx", "g.gz"]))
    assert not any(map(is_data_file, ["a.toml", "lora", "data/", "a.b/c"]))
