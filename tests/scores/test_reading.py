"""Files and folders that a user names."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tuneoff.errors import UserError
from tuneoff.report.score_page import score_page
from tuneoff.scores import is_score_source, read_score_files
from tuneoff.verdict.score_verdict import judge_scores, summarize_scores

Write = Callable[[str, str], str]


def systems(*sources: str) -> set[tuple[str, int]]:
    [runs] = read_score_files(sources).scores.values()
    return set(runs)


def test_a_name_that_is_given_twice_is_a_system_with_two_seeds(write: Write) -> None:
    paths = [write(f"{name}.csv", f"id,score\n1,0.{at}\n") for at, name in enumerate("abc", 1)]
    sources = [f"lora={paths[0]}", f"full={paths[1]}", f"lora={paths[2]}", f"full={paths[0]}"]
    assert systems(*sources) == {("lora", 0), ("lora", 1), ("full", 0), ("full", 1)}
    with pytest.raises(UserError, match="the scores of full have no seed, but others have"):
        systems(*sources[:3])


def test_a_path_with_an_equals_sign_is_a_path(write: Write) -> None:
    path = write("lr=1.csv", "id,score\n1,0.5\n")
    assert is_score_source(path)
    assert systems(path) == {("lr=1", 0)}
    assert systems(f"mine={path}") == {("mine", 0)}


def test_tables_of_several_files_are_one_comparison(write: Write) -> None:
    first = write("one.csv", "model,id,score\na,1,0.5\nb,1,0.25\n")
    second = write("two.csv", "model,id,score\nc,1,0.75\n")
    assert systems(first, second) == {("a", 0), ("b", 0), ("c", 0)}


def test_a_folder_without_scores_is_no_source(write: Write) -> None:
    folder = Path(write("notes/read.me", "hello")).parent
    write("notes/table.csv", "id,A,B\n1,2,3\n")
    assert not is_score_source(str(folder))
    assert not is_score_source(str(folder / "nothing.csv"))
    assert not is_score_source(str(folder / "read.me"))
    assert is_score_source(str(folder / "table.csv"))
    with pytest.raises(UserError, match=r"no file of scores in this folder .*; name the files"):
        systems(str(folder))


REAL = Path(__file__).parents[1] / "fixtures" / "scores"
CHANGES = (
    (b"1", b"null"),
    (b'"', b""),
    (b"{", b"["),
    (b"0", b'"x"'),
    (b"acc", b"\\ud800"),
    (b",", b",,"),
    (b"1", b"1e999"),
)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Cut, overwritten, shortened, doubled or replaced somewhere."""
    changed, at = bytearray(content), rng.randrange(len(content))
    kind = rng.randrange(5)
    if kind == 0:
        return content[:at]
    if kind == 1:
        changed[at] = rng.randrange(256)
    elif kind == 2:
        del changed[at : at + rng.randrange(1, 200)]
    elif kind == 3:
        changed[at:at] = changed[at : at + rng.randrange(1, 400)]
    else:
        old, new = rng.choice(CHANGES)
        return content.replace(old, new, rng.choice((1, -1)))
    return bytes(changed)


def test_100_damaged_files_are_judged_or_refused_in_one_sentence(tmp_path: Path) -> None:
    rng = random.Random(3)
    files = sorted(path for path in REAL.rglob("*") if path.suffix in (".jsonl", ".json", ".eval"))
    refused: list[str] = []
    for _ in range(100):
        source = rng.choice(files)
        path = tmp_path / source.name
        path.write_bytes(damaged(source.read_bytes(), rng))
        try:
            judged = judge_scores(read_score_files([str(path)]))
            judged.verdict.model_dump_json()
            score_page(summarize_scores(judged, "Scores")).encode()
        except UserError as error:
            refused.append(str(error))
    assert 10 < len(refused) < 90
    assert not [message for message in refused if "\n" in message]
