"""`tuneoff work`: its flags, what it says, and its time limit."""

import time
from pathlib import Path

import pytest

from support.stepping_executor import jobs_in
from tuneoff.cli import main
from tuneoff.cli.work import _fitting, _time_limit, status_as_text
from tuneoff.errors import UserError
from tuneoff.results.run_claims import Claims
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import WorkFile
from tuneoff.spec import DataSpec, ModelSpec, StudySpec
from tuneoff.study.executor import Job


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--for", "soon"], "--for soon: a time such as 2h"),
        (["--memory", "much"], "--memory much: a size such as 16G"),
        (["--memory", "3 apples"], "--memory 3 apples: a size such as 16G"),
        (["--devices", "cuda"], "--devices cuda: numbers of accelerators"),
        ([], "no study that is shared"),
    ],
)
def test_mistakes_are_one_sentence(
    flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    assert main(["work", str(folder), "--quiet", *flags]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert list(folder.iterdir()) == []


def test_the_data_that_a_study_reads_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder may come from a stranger."""
    spec = StudySpec(data=DataSpec(train_file="private.csv"), models=(ModelSpec(name="model"),))
    StudyDir(tmp_path).write_work(WorkFile(spec=spec, directory=str(tmp_path / "none")))
    assert main(["work", str(tmp_path)]) == 2
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.endswith(f"takes part in {tmp_path}, which reads private.csv and model in {tmp_path / 'none'}")


def test_runs_that_need_more_memory_are_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tuneoff.cli.work.count_parameters", lambda _model: 1_000_000)
    [job] = jobs_in(tmp_path, 1)
    whole = job.spec.model_copy(update={"method": job.spec.method.model_copy(update={"name": "full"})})
    fits = _fitting(4_000_000)
    assert fits(job)
    assert not fits(Job(whole, "id", "full-s0", job.dir))


def test_the_time_limit_ends_the_program_with_success() -> None:
    with pytest.raises(SystemExit) as ended, _time_limit(0.05):
        time.sleep(10)
    assert ended.value.code == 0
    with _time_limit(0.05):
        pass
    time.sleep(0.1)  # no timer is left


def test_the_status_names_who_works_on_what(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no study"):
        status_as_text(tmp_path)
    (tmp_path / "study.json").write_text("{}")
    assert status_as_text(tmp_path) == "no run is claimed"
    Claims(tmp_path, "host\x1b[31m:1").take("lora-s0-abc", "2026-01-01T00:00:00+00:00")
    ended = Claims(tmp_path, "host:2").take("full-s0-abc", "2026-01-01T00:00:00+00:00")
    assert ended is not None
    ended.release()
    text = status_as_text(tmp_path)
    assert [line.split()[0] for line in text.splitlines()] == ["run", "full-s0-abc", "lora-s0-abc"]
    assert "released" in text
    assert "working" in text
    assert "\x1b" not in text
    assert Claims(tmp_path, "x" * 200).take("full-s1-abc", "") is not None
    assert max(map(len, status_as_text(tmp_path).splitlines())) < 130, "the name of a worker is cut"
