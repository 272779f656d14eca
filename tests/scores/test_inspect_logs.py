"""Logs of inspect_ai: files that it wrote, in both forms, and what is refused."""

import importlib.util
import json
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tuneoff.errors import UserError
from tuneoff.scores import ScoreColumns, read_score_files
from tuneoff.verdict.score_verdict import judge_scores

REAL = Path(__file__).parents[1] / "fixtures" / "scores" / "inspect"
Write = Callable[[str, str], str]


def by_item(name: str) -> dict[str, float]:
    """Mean over the epochs of each sample of a JSON log."""
    log = json.loads((REAL / f"{name}.json").read_text())
    grades: dict[str, list[float]] = {}
    for sample in log["samples"]:
        grades.setdefault(f"times/{sample['id']}", []).append({"C": 1.0, "I": 0.0}[sample["scores"]["match"]["value"]])
    means = {item: float(np.mean(values)) for item, values in grades.items()}
    # What inspect_ai itself reports.
    assert np.mean(list(means.values())) == pytest.approx(log["results"]["scores"][0]["metrics"]["accuracy"]["value"])
    return means


@pytest.mark.parametrize("form", ["eval", "json"])
def test_real_logs_of_both_forms_have_the_same_scores(form: str) -> None:
    data = read_score_files([str(REAL / f"{name}.{form}") for name in ("good", "poor")])
    assert data.scores == {"match": {(f"mockllm/{name}", 0): by_item(name) for name in ("good", "poor")}}
    assert data.notes == (
        "Samples were repeated up to 2 times (epochs); the score of an item is the mean of its repetitions.",
    )


def test_a_folder_of_logs(tmp_path: Path) -> None:
    for name in ("good.eval", "poor.json"):
        shutil.copy(REAL / name, tmp_path)
    (tmp_path / "other.json").write_text('{"a": 1}')
    assert read_score_files([str(tmp_path)]).systems == ("mockllm/good", "mockllm/poor")


def test_the_verdict_on_real_logs_has_the_figures_of_a_paired_comparison() -> None:
    verdict = judge_scores(read_score_files([str(REAL / "good.eval"), str(REAL / "poor.eval")])).verdict
    good, poor = by_item("good"), by_item("poor")
    difference = np.array([100 * (good[item] - poor[item]) for item in good])
    [pair] = verdict.pairs
    assert pair.difference == pytest.approx(difference.mean())
    assert pair.standard_error == pytest.approx(difference.std(ddof=1) / np.sqrt(len(difference)))


def test_groups_come_from_the_metadata() -> None:
    data = read_score_files([str(REAL / "good.eval")], ScoreColumns(group="metadata.table"))
    assert data.groups["times/3x4"] == "3"
    assert len(set(data.groups.values())) == 5


def log(samples: object, **other: object) -> str:
    return json.dumps(
        {"version": 2, "status": "success", "eval": {"task": "t", "model": "m"}, "samples": samples, **other}
    )


def sample(name: object, **scores: object) -> dict[str, object]:
    return {"id": name, "epoch": 1, "scores": {scorer: {"value": value} for scorer, value in scores.items()}}


def test_grades_numbers_and_several_values(write: Write) -> None:
    rows = [
        sample(1, grade="C", number=0.25, several={"a": 1, "b": "I"}, truth=True, text="yes"),
        sample(2, grade="P", number="0.5", several={"a": 0, "b": "N"}, truth=False, text="no"),
        {"id": 3, "epoch": 1, "error": {"message": "timed out"}},
        sample(4, grade=[1, 2], number=float("nan")),
    ]
    found = {
        metric: dict(runs["m", 0]) for metric, runs in read_score_files([write("a.json", log(rows))]).scores.items()
    }
    none = {"t/3": None, "t/4": None}
    assert found == {
        "grade": {"t/1": 1.0, "t/2": 0.5, **none},
        "number": {"t/1": 0.25, "t/2": 0.5, **none},
        "several/a": {"t/1": 1.0, "t/2": 0.0, **none},
        "several/b": {"t/1": 0.0, "t/2": 0.0, **none},
        "truth": {"t/1": 1.0, "t/2": 0.0, **none},
        "text": {"t/1": 1.0, "t/2": 0.0, **none},
    }


def test_a_log_that_did_not_succeed_is_named(write: Write) -> None:
    data = read_score_files([write("a.json", log([sample(1, match="C")], status="cancelled"))])
    assert data.notes == ("The log a.json has the status cancelled, with 1 sample.",)


REFUSED = {
    "no samples": (log([]), r"a\.json: the log has no samples"),
    "no scores": (log([{"id": 1, "epoch": 1}]), r"a\.json: no sample of this log has a score; run `inspect score`"),
    "a text as a score": (log([sample(7, judge="fine")]), r"a\.json, sample 7: the score 'judge' is 'fine'"),
    # `value_to_float` of inspect_ai 0.3.285 takes only "C" for a correct answer
    "a small letter as a grade": (log([sample(7, judge="c")]), r"a\.json, sample 7: the score 'judge' is 'c'"),
    "no model": (log([sample(1, match="C")], eval={"task": "t"}), r"names no model; give it a name as NAME="),
    "no eval": (
        log([sample(1, match="C")], eval=3),
        r"a\.json: not a log of inspect_ai, because it has no",
    ),
    "incomplete": (log([sample(1, match="C")])[:-20], r"a\.json, line 1: not JSON"),
    "nested too deep": (
        '{"version": 2, "status": "success", "eval": ' + "[" * 200_000,
        r"a\.json: JSON .* nested too deep",
    ),
}


@pytest.mark.parametrize(("text", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_bad_log_is_refused(text: str, message: str, write: Write) -> None:
    with pytest.raises(UserError, match=message):
        read_score_files([write("a.json", text)])


def archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> str:
    with zipfile.ZipFile(path, "w", compression) as out:
        for name, content in members.items():
            out.writestr(name, content)
    return str(path)


HEADER = json.dumps({"version": 2, "status": "started", "eval": {"task": "t", "model": "m"}}).encode()


def test_an_unfinished_archive_has_samples_and_no_summary(tmp_path: Path) -> None:
    members = {
        "_journal/start.json": HEADER,
        "samples/1_epoch_1.json": json.dumps(sample(1, match="C")).encode(),
        "samples/2_epoch_1.json": json.dumps(sample(2, match="I")).encode(),
    }
    data = read_score_files([archive(tmp_path / "a.eval", members)])
    assert data.scores == {"match": {("m", 0): {"t/1": 1.0, "t/2": 0.0}}}
    assert data.notes == ("The log a.eval has the status started, with 2 samples.",)


def test_archives_that_are_damaged_hostile_or_something_else_are_refused(tmp_path: Path) -> None:
    real = (REAL / "good.eval").read_bytes()
    (tmp_path / "cut.eval").write_bytes(real[: len(real) // 2])
    with pytest.raises(UserError, match=r"cut\.eval: the compressed file is damaged or incomplete"):
        read_score_files([str(tmp_path / "cut.eval")])
    with pytest.raises(UserError, match=r"other\.eval: not a log of inspect_ai, because it has no header\.json"):
        read_score_files([archive(tmp_path / "other.eval", {"a.txt": b"hello"})])
    with pytest.raises(
        UserError, match=r"list\.eval/header\.json: not a log of inspect_ai, because it is not a JSON object"
    ):
        read_score_files([archive(tmp_path / "list.eval", {"header.json": b"[]", "summaries.json": b"[]"})])
    middle = bytearray(real)
    with zipfile.ZipFile(REAL / "good.eval") as found:
        summaries = found.getinfo("summaries.json")
    at = summaries.header_offset + 30 + len("summaries.json") + summaries.compress_size // 2
    middle[at : at + 40] = b"\xff" * 40
    (tmp_path / "bits.eval").write_bytes(bytes(middle))
    with pytest.raises(UserError, match=r"bits\.eval.*: (the compressed file is damaged|not JSON)"):
        read_score_files([str(tmp_path / "bits.eval")])


def test_a_zip_bomb_ends_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneoff.data.bombs.ALWAYS_READ_BYTES", 100_000)
    path = archive(tmp_path / "bomb.eval", {"header.json": HEADER, "summaries.json": b"[" + b" " * 50_000_000 + b"]"})
    with pytest.raises(UserError, match=r"bomb\.eval/summaries\.json: its .* bytes unpack to more than"):
        read_score_files([path])


def test_a_member_without_a_header_is_damage(tmp_path: Path) -> None:
    content = bytearray((REAL / "good.eval").read_bytes())
    with zipfile.ZipFile(REAL / "good.eval") as found:
        at = found.getinfo("summaries.json").header_offset
    content[at : at + 4] = struct.pack("<I", 0)
    path = tmp_path / "a.eval"
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"the compressed file is damaged or incomplete"):
        read_score_files([str(path)])


@pytest.mark.skipif(importlib.util.find_spec("inspect_ai") is None, reason="needs inspect_ai (extra interop)")
def test_the_installed_inspect_ai_writes_such_files(tmp_path: Path) -> None:
    # In a process of its own: a warning of that program is no error of ours.
    subprocess.run([sys.executable, REAL.parent / "make.py", tmp_path, "inspect"], check=True, capture_output=True)
    for form in ("eval", "json"):
        new, old = (
            read_score_files([str(folder / f"{name}.{form}") for name in ("good", "poor")]).scores
            for folder in (tmp_path / "inspect", REAL)
        )
        assert new == old
