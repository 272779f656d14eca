"""Formats are found by their content, and another package can add one."""

from pathlib import Path

import pytest

from fake_package import write_package
from tuneoff.errors import UserError
from tuneoff.scores import read_score_files
from tuneoff.scores.formats import TABLE, format_of
from tuneoff.scores.score_file import ScoreFile

HELM = """
from tuneoff.scores.formats import ScoreFormat
from tuneoff.scores.score_data import ScoreRow

def read(file, columns):
    for number, line in enumerate(file.path.read_text().splitlines()[1:], 1):
        system, score = line.split()
        yield ScoreRow(system, "1", float(score), f"{file.name}:{number}")

FORMAT = ScoreFormat("file of helm", lambda file: file.start.startswith(b"helm"), read, ("*.helm",))
"""


def test_a_file_of_no_known_format_is_a_table(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,A,B\n1,2,3\n")
    assert format_of(ScoreFile(str(path))) is TABLE


def test_another_package_adds_a_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(tmp_path / "site", "helm-scores", HELM, "[tuneoff.score_formats]\nhelm = helm_scores:FORMAT\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    runs = tmp_path / "out"
    runs.mkdir()
    (runs / "x.helm").write_text("helm\na 0.5\nb 0.7\n")
    for source in (runs, runs / "x.helm"):
        assert read_score_files([str(source)]).scores == {"score": {("a", 0): {"1": 0.5}, ("b", 0): {"1": 0.7}}}


def test_what_another_package_adds_must_be_a_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(tmp_path / "site", "bad-scores", "FORMAT = 3", "[tuneoff.score_formats]\nbad = bad_scores:FORMAT\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (tmp_path / "a.csv").write_text("id,A,B\n1,2,3\n")
    with pytest.raises(UserError, match=r"bad-scores adds 'bad' .*3 is not a tuneoff\.scores\.formats\.ScoreFormat"):
        read_score_files([str(tmp_path / "a.csv")])
