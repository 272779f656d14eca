"""`tuneoff compare --budget` and `--equal time`: a study is planned, carried out with its plan, and continued."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tuneoff.cli import main
from tuneoff.results.study_dir import StudyDir
from tuneoff.study import speed_probe


@pytest.mark.parametrize("flags", [["--budget=1s"], pytest.param(["--equal=time"], marks=pytest.mark.slow)])
def test_a_planned_study_is_carried_out_and_continues(
    flags: list[str],
    tiny_model: Callable[[str], Path],
    tiny_data: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    files = [f"--{split}-file={path}" for split, path in tiny_data.items()]
    small = ["--max-length=128", "--max-new-tokens=4", "--max-steps=4", "--seeds=3", "--precision=fp32"]
    own = [f"--model={tiny_model('gpt_neo')}", "--methods=zero_shot,lora", "--output=out"]
    command = ["compare", *own, *files, *small, *flags]
    assert main([*command, "--dry-run"]) == 0
    assert not Path("out").exists()
    seeds = 1 if "--budget=1s" in flags else 3
    output = capsys.readouterr()
    assert f"lora-s{seeds - 1}" in output.out
    assert f"lora-s{seeds}" not in output.out
    assert "planned: " in output.err
    assert "lora: " in output.err
    assert "used again" not in output.err
    monkeypatch.setattr(speed_probe, "measure_speeds", lambda *_: pytest.fail("what the dry run measured is kept"))
    assert main(command) == 0
    assert "used again" in capsys.readouterr().err
    records = StudyDir(Path("out")).load().records
    assert sum(record.spec.method.name == "lora" for record in records) == seeds
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("record.json")}
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("record.json")} == before
