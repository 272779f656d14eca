"""500 runs of 1,000 documents are judged and drawn, and a million rows are read, in bounded time and memory."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from support.planned import curve_of
from support.verdict_study import add_run, edit_record, write_spec
from tuneoff.results.run_record import Document
from tuneoff.results.step_thinning import MOST_POINTS
from tuneoff.results.study_dir import StudyDir

METHODS = ("soft_prompt", "lora", "ia3", "last_layers", "full")
_SEEDS, _DOCUMENTS, _ROWS = 100, 1000, 1_000_000
# Of a fresh interpreter, with what it imports: numpy, scipy, altair. A page alone takes a fifth of it.
_MOST_BYTES = 1_500_000_000
_MOST_SECONDS = 60.0
_MEASURED = """
import resource, sys, time
{work}
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)
"""


def measured(work: str) -> tuple[float, int]:
    """Seconds of computing and largest memory in bytes of a fresh interpreter that does `work`."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED.format(work=work)], capture_output=True, text=True, check=True
    )
    seconds, size = done.stdout.split()[-2:]
    return float(seconds), int(size)


@pytest.fixture(scope="module")
def large(full: bool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not full:
        pytest.skip("one of the trials of `make faults`")
    study, draw = tmp_path_factory.mktemp("large") / "study", random.Random(0)
    ids = [f"d{number}" for number in range(_DOCUMENTS)]
    text = "a document of many words " * 60
    StudyDir(study).write_documents(Document(id=each, group=each, document=text, references=("a",)) for each in ids)
    write_spec(study, methods=METHODS, seeds=_SEEDS)
    curve = curve_of({MOST_POINTS: 2.5}, steps=MOST_POINTS)
    for method in METHODS:
        for seed in range(_SEEDS):
            run = add_run(study, method, seed, {each: draw.gauss(35, 8) for each in ids})
            edit_record(run, curve=curve)
    return study


@pytest.mark.parametrize(
    "work",
    [
        "from tuneoff.api import load_study; load_study({study!r})",
        "from tuneoff.api import load_study; load_study({study!r}).judge_models(metric='rouge1')",
        "from tuneoff.api import load_study; load_study({study!r}).report()",
        "from tuneoff.cli import main; assert main(['judge', {study!r}, '--json']) == 0; print()",
    ],
)
def test_a_large_study_is_judged_and_drawn(large: Path, work: str) -> None:
    seconds, size = measured(work.format(study=str(large)))
    print(f"{seconds:.1f} s, {size / 1e6:.0f} MB", flush=True)
    assert size < _MOST_BYTES
    assert seconds < _MOST_SECONDS


def test_a_million_rows_are_read(full: bool, tmp_path: Path) -> None:
    if not full:
        pytest.skip("one of the trials of `make faults`")
    path = tmp_path / "rows.jsonl"
    with path.open("w") as stream:
        for number in range(_ROWS):
            stream.write(
                json.dumps({"document": f"document number {number} of many", "summary": f"number {number}"}) + "\n"
            )
    work = (
        f"import os; os.environ['TUNEOFF_CACHE'] = {str(tmp_path / 'cache')!r}\n"
        "from tuneoff.data import load_dataset; from tuneoff.spec import DataSpec\n"
        f"data = load_dataset(DataSpec(train_file={str(path)!r}))\n"
        f"assert len(data.train) + len(data.validation) + len(data.test) == {_ROWS}"
    )
    seconds, size = measured(work)
    print(f"{seconds:.1f} s, {size / 1e6:.0f} MB", flush=True)
    assert size < _MOST_BYTES
