"""Loading: every row is used or reported, no document is in two splits, and the same file gives the same data set."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.data_files import SPLITS, Rows, load_rows, pair, write_jsonl
from tuneoff.data import Dataset, load_dataset
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec

# Public data sets; the README of this folder names their sources and licences.
FOLDER = Path(__file__).parents[3] / "shared" / "data"

text = st.sampled_from(["one", "one ", "two", "two\n two", "two two", "three", "", " ", "\0", "\ud800", None, 7])
summary = st.one_of(text, st.lists(text, max_size=3))
row = st.fixed_dictionaries({}, optional={"document": text, "summary": summary, "id": text, "aspect": text})
# Each file starts with a clean row: another test checks that a split without one is refused.
rows = st.lists(row, max_size=12)
given_splits = st.sets(st.sampled_from(["validation", "test"]))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(rows, rows, rows, given_splits, st.none() | st.integers(1, 3), st.integers(0, 3))
def test_every_row_is_used_or_counted_with_its_line(
    train: Rows, validation: Rows, test: Rows, present: set[str], cap: int | None, seed: int
) -> None:
    files_with_clean_rows: dict[str, Rows] = {
        "train": [pair(n) for n in range(4)] + train,
        "validation": [pair(10), *validation],
        "test": [pair(20), *test],
    }
    files = {split: of for split, of in files_with_clean_rows.items() if split == "train" or split in present}
    caps = {f"max_{split}_documents": cap for split in SPLITS}
    with tempfile.TemporaryDirectory() as folder:
        dataset = load_rows(Path(folder), files, split_seed=seed, **caps)
        again = load_rows(Path(folder), files, split_seed=seed, **caps)
        assert again == dataset
        used = sum(len(getattr(dataset, split)) for split in SPLITS)
        dropped_rows = [row for row in dataset.dropped if not row.kept]
        assert used + len(dropped_rows) + sum(dataset.over_limit.values()) == sum(map(len, files.values()))
        for dropped in dataset.dropped:
            path, _, line = dropped.location.rpartition(":")
            assert Path(path) == Path(folder, f"{dropped.split}.jsonl")
            assert 1 <= int(line) <= len(files[dropped.split])
            assert dropped.reason
        assert len({row.location for row in dropped_rows}) == len(dropped_rows)
        groups = [{example.group for example in getattr(dataset, split)} for split in SPLITS]
        assert all(groups)
        assert len(groups[0] | groups[1] | groups[2]) == sum(map(len, groups))
        assert cap is None or all(len(found) <= cap for found in groups)
        for split in SPLITS:
            ids = [example.id for example in getattr(dataset, split)]
            assert len(set(ids)) == len(ids)
        assert not any(row.kept and row.reason == "duplicate pair" for row in dataset.dropped if row.split != "test")
        json.dumps([[e.id, e.document, *e.references, *e.fields.values()] for e in dataset.test]).encode()


def test_a_document_beyond_the_limit_of_test_is_not_training_data(tmp_path: Path) -> None:
    test = [pair(n) for n in range(10)]
    dataset = load_rows(
        tmp_path,
        {"train": [*test, pair(99)], "validation": [pair(98)], "test": test},
        max_test_documents=1,
    )
    assert [example.document for example in dataset.train] == ["document 99"]
    assert dataset.over_limit == {"test": 9}


def test_missing_splits_are_held_out_by_document(tmp_path: Path) -> None:
    train = [pair(n % 50, aspect=str(n)) for n in range(150)]
    dataset = load_rows(tmp_path, {"train": train}, validation_share=0.1, test_share=0.2)
    documents = [len({example.group for example in getattr(dataset, split)}) for split in SPLITS]
    assert documents == [35, 5, 10]
    assert [len(getattr(dataset, split)) for split in SPLITS] == [105, 15, 30]
    assert dataset.description == (
        "train.jsonl: train 105 pairs of 35 documents, validation 15 pairs of 5 documents (held out from train), "
        "test 30 pairs of 10 documents (held out from train)"
    )
    other = load_rows(tmp_path, {"train": train}, validation_share=0.1, test_share=0.2, split_seed=1)
    assert other.content_hash != dataset.content_hash


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_share_is_refused_where_the_split_has_a_file(tmp_path: Path, split: str) -> None:
    files = {"train": [pair(n) for n in range(50)], split: [pair(100)]}
    with pytest.raises(UserError) as caught:
        load_rows(tmp_path, files, **{f"{split}_share": 0.2})
    message = str(caught.value)
    assert message.startswith(f"--{split}-share 0.2: nothing is held out, because there are {split} data (")
    assert message.endswith(f"{split}.jsonl); leave out one of the two")
    other = {"validation": "test", "test": "validation"}[split]
    assert len(getattr(load_rows(tmp_path, files, **{f"{other}_share": 7}), other)) == 7


def test_held_out_splits_do_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    train = [pair(n) for n in range(50)]
    one = load_rows(tmp_path, {"train": train})
    other = load_rows(tmp_path, {"train": train[::-1]})
    for split in SPLITS:
        assert {e.group for e in getattr(one, split)} == {e.group for e in getattr(other, split)}


def test_limits_are_nested(tmp_path: Path) -> None:
    files = {"train": [pair(n) for n in range(60)], "validation": [pair(100)], "test": [pair(200)]}
    ten = load_rows(tmp_path, files, max_train_documents=10)
    twenty = load_rows(tmp_path, files, max_train_documents=20)
    assert {example.id for example in ten.train} < {example.id for example in twenty.train}
    assert (len(ten.train), len(twenty.train)) == (10, 20)
    assert ten.over_limit == {"train": 50}


@pytest.mark.parametrize(
    "change",
    [{"document": "document 1!"}, {"summary": "other"}, {"id": "x"}, {"aspect": "a"}, {"summary": ["summary 1", "b"]}],
)
def test_content_hash_moves_with_everything_that_matters(tmp_path: Path, change: dict[str, Any]) -> None:
    files = {"train": [pair(1)], "validation": [pair(2)], "test": [pair(3)]}
    before = load_rows(tmp_path, files)
    assert load_rows(tmp_path, files).content_hash == before.content_hash
    assert len(before.content_hash) == 16
    after = load_rows(tmp_path, {**files, "train": [pair(1, **change)]})
    assert after.content_hash != before.content_hash
    moved = load_rows(tmp_path, {"train": [pair(1)], "validation": [pair(3)], "test": [pair(2)]})
    assert moved.content_hash != before.content_hash


def test_a_field_that_a_file_does_not_have_is_refused(tmp_path: Path) -> None:
    rows = {"train": [pair(1, aspect="aim")], "validation": [pair(2)], "test": [pair(3, aspect="aim")]}
    with pytest.raises(UserError, match=r"train\.jsonl: .*'aspcet' for \{aspcet\} .*; did you mean 'aspect'\?"):
        load_rows(tmp_path, rows, "aspcet")
    with pytest.raises(UserError, match=r"validation\.jsonl: there is no column 'aspect' .*; correct --instruction"):
        load_rows(tmp_path, rows, "aspect")


def test_the_same_file_for_two_splits_is_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path, "train", [pair(1)])
    with pytest.raises(UserError, match="given for both train and test"):
        load_dataset(DataSpec(train_file=path, test_file=str(tmp_path / "." / "train.jsonl")))


def test_sources_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no data file in it has `train` in its name"):
        load_dataset(DataSpec(source=str(tmp_path)))
    path = write_jsonl(tmp_path, "train", [pair(1)])
    with pytest.raises(UserError, match="name it with --train-file"):
        load_dataset(DataSpec(source=path))
    with pytest.raises(UserError, match="no such folder, and it is not a hub name"):
        load_dataset(DataSpec(source=str(tmp_path / "nowhere" / "at all")))
    with pytest.raises(UserError, match=r"no such file; did you mean 'train\.jsonl'"):
        load_dataset(DataSpec(source=str(tmp_path / "tarin.jsonl")))


def test_columns_may_differ_between_files_unless_given(tmp_path: Path) -> None:
    files: dict[str, Rows] = {
        "train": [{"text": "a", "tldr": "x"}],
        "validation": [{"article": "b", "summaries": ["y", "z"]}],
        "test": [pair(1)],
    }
    assert load_rows(tmp_path, files).validation[0].references == ("y", "z")
    with pytest.raises(UserError, match=r"validation.jsonl: there is no column 'text'"):
        load_rows(tmp_path, files, document_column="text", summary_column="tldr")


pieces = st.sampled_from(
    [
        b'{"text": "d%d", "summary": "s"}\n',
        b'"d%d,x",s\n',
        b"d%d,s\n",
        b"text,summary\n",
        b'"',
        b"\0",
        b"\xff",
        b"\r",
        b"\n",
    ]
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.sampled_from([".jsonl", ".csv", ".tsv", ".parquet"]), st.lists(st.one_of(pieces, st.binary(max_size=6))))
def test_any_bytes_are_read_or_refused_in_one_sentence(extension: str, parts: list[bytes]) -> None:
    content = b"".join(part.replace(b"%d", str(at).encode()) for at, part in enumerate(parts))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{extension}")
        path.write_bytes(content)
        message = None
        try:
            dataset = load_dataset(DataSpec(train_file=str(path)))
        except UserError as error:
            message = str(error)
    if message is None:
        assert all(getattr(dataset, split) for split in SPLITS)
    else:
        assert message.startswith(str(path))
        assert "\n" not in message


def test_reading_jsonl_imports_nothing_heavy(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "document {n}", "summary": "s"}}\n' for n in range(3)))
    program = f"""
import sys
from tuneoff.data import load_dataset
from tuneoff.spec import DataSpec
load_dataset(DataSpec(train_file={str(path)!r}))
print(*sorted({{"torch", "transformers", "pyarrow", "datasets", "pandas"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def trial(name: str) -> Dataset:
    folder = FOLDER / name
    if not folder.is_dir():
        pytest.skip(f"no trial data {name}")
    return load_dataset(
        DataSpec(
            train_file=str(folder / "train.jsonl"),
            validation_file=str(folder / "val.jsonl"),
            test_file=str(folder / "test.jsonl"),
        )
    )


@pytest.mark.real
def test_scitldr_has_several_references_and_one_leak() -> None:
    dataset = trial("scitldr_a")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [1988, 618, 618]
    assert {len(example.references) for example in dataset.train} == {1}
    assert min(len(example.references) for example in dataset.test) == 2
    assert [(row.split, Path(row.location).name, row.reason) for row in dataset.dropped] == [
        ("validation", "val.jsonl:427", "document is in test too")
    ]


@pytest.mark.real
def test_meqsum_is_clean() -> None:
    dataset = trial("meqsum")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [600, 100, 300]
    assert dataset.dropped == ()


def test_all_files_in_the_form_of_alpaca_are_read_alike(tmp_path: Path) -> None:
    """Only the training file has a row without input."""
    train = [{"instruction": f"Ask {n}.", "input": "" if n % 2 else f"about {n}", "output": "o"} for n in range(40)]
    test = [{"instruction": f"Tell {n}.", "input": f"of {n}", "output": "o"} for n in range(12)]
    for name, rows in (("train", train), ("test", test)):
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    spec = DataSpec(train_file=str(tmp_path / "train.jsonl"), test_file=str(tmp_path / "test.jsonl"))
    data = load_dataset(spec)
    assert {example.document for example in data.test} == {f"Tell {n}.\n\nof {n}" for n in range(12)}
    assert data.columns["test"].added_to_document == data.columns["train"].added_to_document == "input"


def test_the_description_says_that_files_were_joined(tmp_path: Path) -> None:
    for number in range(2):
        write_jsonl(tmp_path, str(number), [pair(20 * number + n) for n in range(20)])
    data = load_dataset(DataSpec(train_file=(str(tmp_path / "0.jsonl"), str(tmp_path / "1.jsonl"))))
    assert data.description.startswith("0.jsonl, 1.jsonl (2 train files joined, 40 documents): train ")


def test_folds_are_splits_of_the_same_data(tmp_path: Path) -> None:
    files: dict[str, Rows] = {"train": [pair(n) for n in range(20)]}
    whole = load_rows(tmp_path, files, folds=4)
    parts = [load_rows(tmp_path, files, folds=4, fold=fold) for fold in range(1, 5)]
    assert {part.content_hash for part in parts} == {whole.content_hash}
    assert whole.content_hash != load_rows(tmp_path, files).content_hash
    assert [len(whole.test), *(len(part.test) for part in parts)] == [20, 5, 5, 5, 5]
    assert sorted(example.id for part in parts for example in part.test) == sorted(row.id for row in whole.test)
    for split in SPLITS:  # what is cached of a split must not be taken for that of another fold
        keys = [getattr(part, split).content_key for part in parts]
        assert len({str(key) for key in keys}) == 4
    assert "4 folds, each tested once" in whole.description
    assert parts[2].description.endswith("; fold 3 of 4")


def test_folds_need_one_set_of_examples(tmp_path: Path) -> None:
    files: dict[str, Rows] = {"train": [pair(n) for n in range(20)]}
    for key, value in {"max_test_documents": 5, "test_file": "x", "repeated_documents": "references"}.items():
        flag = f"--{key.replace('_', '-')}"
        with pytest.raises(ValueError, match=f"--folds tests every document once, which {flag} does not fit"):
            load_rows(tmp_path, files, folds=4, **{key: value})
    with pytest.raises(ValueError, match="`fold` is set by the plan"):
        load_rows(tmp_path, files, fold=1)
    with pytest.raises(ValueError, match="fold 5 of 4"):
        load_rows(tmp_path, files, folds=4, fold=5)
    with pytest.raises(UserError, match="--folds 4: the data have a split for"):
        load_dataset(DataSpec(source="starter", folds=4))
