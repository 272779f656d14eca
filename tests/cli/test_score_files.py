"""`tuneoff judge` on scores of other programs."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from support.verdict_study import study_folder
from tuneoff.cli import main

HEAVY = {"torch", "transformers", "peft"}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twelve systems on 60 items, wide."""
    rng = random.Random(1)
    names = [f"s{at}" for at in range(12)]
    rows = [[f"q{at}", *(str(rng.gauss(50 + 3 * place, 8)) for place in range(12))] for at in range(60)]
    path = tmp_path / "wide.csv"
    path.write_text("\n".join(",".join(row) for row in [["id", *names], *rows]))
    return path


def test_a_wide_table_is_judged_without_torch(table: Path) -> None:
    code = (
        "import sys; from tuneoff.cli import main\n"
        f"code = main(['judge', {str(table)!r}, '--report', {str(table.with_suffix('.html'))!r}])\n"
        "print(code, *sorted({name.partition('.')[0] for name in sys.modules}), sep='\\n', file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    loaded = set(done.stderr.split())
    assert "0" in loaded
    assert loaded & HEAVY == set()
    lines = done.stdout.splitlines()
    assert len([line for line in lines if " regret bound " in line and line.split()[0].startswith("s")]) == 12
    assert "12 systems on the same 60 items" in done.stdout
    assert table.with_suffix(".html").exists()


def test_json_has_the_verdict_and_the_files(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", str(table), "--json", "--margin", "1", "--systems", "s0,s1, s11"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert found["files"] == [str(table)]
    assert found["best"] == "s11"
    assert found["margin"] == 1
    assert len(found["pairs"]) == 3
    assert found["compared"] == "systems"


def test_studies_and_scores_are_judged_side_by_side(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = study_folder(tmp_path)
    assert main(["judge", str(study), str(table), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["study"], second["files"]) == (str(study), [str(table)])
    assert main(["judge", str(study), str(table)]) == 0
    out = capsys.readouterr().out
    assert out.index(str(study)) < out.index("12 systems on the same")


def test_flags_about_scores_are_refused_for_studies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = study_folder(tmp_path)
    assert main(["judge", str(study), "--item-column", "id"]) == 2
    assert "not a file of scores, but flags for such files were given" in capsys.readouterr().err


def test_a_bad_file_is_one_sentence_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text("model,id,score\na,1,0.5\na,2,\x1b[31mgood\n")
    assert main(["judge", str(path)]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    [line] = error.strip().splitlines()
    assert f"{path}:3: '\\x1b[31mgood' in the column 'score' is not a score; a number was expected" in line


def test_less_is_better(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", str(table), "--lower-is-better", "--json"]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert (found["best"], found["higher_is_better"]) == ("s0", False)
