"""Damage to any file of a study, of a training that was interrupted, and of the cache.

Readers refuse it by name or show what they showed before; the same command repairs it and ends with the same bytes.
"""

import random
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.damage import DAMAGES, content, write_study
from support.kept_study import KeptStudy, check_repair
from support.warm_command import WarmCommand
from support.warm_study import WarmStudy
from tuneoff import cli
from tuneoff.errors import UserError
from tuneoff.results import manifest
from tuneoff.results.manifest import MANIFEST
from tuneoff.results.recovery import recover
from tuneoff.results.study_dir import StudyDir
from tuneoff.results.study_state import DataFile, PlanFile
from tuneoff.results.verification import verify

Damage = Callable[[Path, random.Random, list[Path]], None]
"""Of a file; the list holds all files that may be damaged."""

# Written again at each start, or read by nobody: readers need not notice.
_NOTHING: tuple[object, ...] = (None, [], {}, PlanFile(), DataFile())  # until the study is carried out again
_NOT_COVERED = frozenset(
    {".lock", "log.txt", "events.jsonl", "outputs.json", "summary.json", "report.html", "rating.html"}
)


def _changed(change: Callable[[bytes], bytes]) -> Damage:
    def damage(path: Path, _draw: random.Random, _files: list[Path]) -> None:
        path.write_bytes(change(path.read_bytes() or b"\0"))

    return damage


def _flip(path: Path, draw: random.Random, _files: list[Path]) -> None:
    data = bytearray(path.read_bytes() or b"\0")
    for _ in range(draw.choice((1, 1, 2, 20))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(data))


def _cut(path: Path, draw: random.Random, _files: list[Path]) -> None:
    size = path.stat().st_size
    with path.open("rb+") as stream:
        stream.truncate(draw.randrange(size) if size else 0)


def _garbage(path: Path, draw: random.Random, _files: list[Path]) -> None:
    path.write_bytes(draw.randbytes(draw.choice((1, 100, 5000))))


def _appended(path: Path, draw: random.Random, _files: list[Path]) -> None:
    path.write_bytes(path.read_bytes() + draw.choice((b"\n", b"{}\n", b"\0", draw.randbytes(50))))


def _removed(path: Path, _draw: random.Random, _files: list[Path]) -> None:
    path.unlink()


def _swapped(path: Path, draw: random.Random, files: list[Path]) -> None:
    """With another file of the same name, or with any."""
    others = [other for other in files if other != path]
    other = draw.choice([other for other in others if other.name == path.name] or others or [path])
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)


KINDS: dict[str, Damage] = {
    **{name: _changed(change) for name, change in DAMAGES.items() if name != "later"},
    "flip": _flip,
    "cut anywhere": _cut,
    "garbage": _garbage,
    "appended": _appended,
    "removed": _removed,
    "swapped": _swapped,
}


@pytest.fixture(scope="module")
def finished(
    full: bool, warm_flags: list[str], kept_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> KeptStudy:
    if not full:
        pytest.skip("one of the trials of `make faults`")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEOFF_CACHE", str(kept_cache))
        flags = [*warm_flags, "--methods=few_shot,lora,full", "--trials=1", "--seeds=1", "--budget=1h"]
        study = WarmStudy.carried_out(flags, tmp_path_factory.mktemp("finished"))
        assert (last := study.command.carry_out()).code == 0, last.said
    return KeptStudy.of(study, kept_cache)


@dataclass(frozen=True)
class Reader:
    """A command that reads a study, and what it says of a whole one."""

    command: WarmCommand
    whole: str

    @classmethod
    def of(cls, study: WarmStudy, *arguments: str) -> "Reader":
        words = [word.replace("DIR", str(study.folder)) for word in arguments]
        command = WarmCommand(words, study.folder, study.output)
        read = command.carry_out()
        assert read.code == 0, read.said
        return cls(command, read.said)


def damage_one(draw: random.Random, files: list[Path], where: str) -> tuple[Path, str]:
    """Damage one of the files, in a way that changes it; which and how."""
    while True:
        path, kind = draw.choice(files), draw.choice(sorted(KINDS))
        before = path.read_bytes()
        KINDS[kind](path, draw, files)
        if not path.exists() or path.read_bytes() != before:
            return path, f"{where}, {kind} of {path.name} in {path.parent.name}"


def files_below(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"]


def test_damage_to_what_judging_reads(full: bool, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a study that trained nothing, which takes no time: it is refused by name, or read as it was; then repaired."""
    monkeypatch.setattr(manifest, "_PAUSE_SECONDS", 0)  # nobody else writes here
    whole, draw, outcomes = write_study(tmp_path / "whole"), random.Random(8 + seed), Counter[str]()
    expected = content(whole)
    for trial in range(1000 if full else 20):
        folder = StudyDir(shutil.copytree(whole.path, tmp_path / "study"))
        path, where = damage_one(draw, files_below(folder.path), f"trial {trial}")
        try:
            assert content(folder) == expected, where
            outcomes["read as it was"] += 1
        except UserError as error:
            assert str(folder.path) in str(error), where  # noqa: PT017
            outcomes["refused"] += 1
        states = {file.path: file.state for file in verify(folder.path)}
        is_seen = states if states[MANIFEST] == "whole" else {}  # the manifest may have been swapped with it
        name = path.relative_to(folder.path).as_posix()
        assert path.name in (*_NOT_COVERED, MANIFEST) or is_seen.get(name, "damaged") in ("damaged", "missing"), where
        with StudyDir(folder.path).lock():
            said = list(recover(StudyDir(folder.path)))
        if not is_seen and path.suffix == ".jsonl":  # exchanged with the manifest: the next start writes it again
            shutil.rmtree(folder.path)
            continue
        repaired = content(StudyDir(folder.path))  # what is left is readable, and as it was
        assert all(repaired.get(key, value) in (value, *_NOTHING) for key, value in expected.items()), where
        assert said or outcomes["read as it was"], where
        with StudyDir(folder.path).lock():
            assert list(recover(StudyDir(folder.path))) == [], where
        shutil.rmtree(folder.path)
    print(dict(outcomes))


def test_damage_to_a_finished_study(
    finished: KeptStudy, kept_cache: Path, full: bool, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEOFF_CACHE", str(kept_cache))
    draw, study = random.Random(5 + seed), finished.study
    finished.restore(kept_cache)
    document = tmp_path / "document.txt"
    document.write_text("We show that a small model learns. The cost stays low.")
    readers = [
        Reader.of(study, "judge", "DIR", "--json"),
        Reader.of(study, "judge", "DIR"),
        Reader.of(study, "verify", "DIR"),
        Reader.of(study, "summarize", "DIR", str(document), "--method", "lora"),
    ]
    noticed = Counter[str]()
    for trial in range(600 if full else 1):
        finished.restore(kept_cache)
        path, where = damage_one(draw, files_below(study.folder), f"trial {trial}")
        reader = readers[trial % len(readers)]
        read = reader.command.carry_out()
        assert "Traceback" not in read.said, f"{where}: {read.said}"
        is_covered = path.name not in _NOT_COVERED and path.name != MANIFEST
        if read.code == 0:
            right = not is_covered if reader.command.arguments[0] == "verify" else read.said == reader.whole
            assert right, f"{where}: {reader.command.arguments[0]} says {read.said}"
        else:
            assert read.code in (cli.USAGE, cli.FAILED), f"{where}: {read.code}, {read.said}"
            assert str(study.folder) in read.said, f"{where}: {read.said}"
        noticed[f"{reader.command.arguments[0]} {read.code}"] += 1
        check_repair(study, where, named=path if is_covered else None)
    print(dict(noticed))


@pytest.mark.slow
def test_damage_to_the_states_of_a_training(
    under_way: KeptStudy, kept_cache: Path, full: bool, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEOFF_CACHE", str(kept_cache))
    draw, study = random.Random(6 + seed), under_way.study
    for trial in range(200 if full else 1):
        under_way.restore(kept_cache)
        files = [
            path for path in files_below(study.folder) if path.suffix == ".safetensors" and "artefact" not in path.parts
        ]
        where = f"trial {trial}"
        for path in draw.sample(files, min(len(files), draw.choice((1, 1, 2)))):
            _, where = damage_one(draw, [path], where)
        check_repair(study, where)


def test_damage_to_the_cache(
    finished: KeptStudy, kept_cache: Path, full: bool, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the cache holds is only ever a copy: the study is computed again from it, with the same result."""
    monkeypatch.setenv("TUNEOFF_CACHE", str(kept_cache))
    draw, study = random.Random(7 + seed), finished.study
    for trial in range(200 if full else 1):
        finished.restore(kept_cache)
        shutil.rmtree(draw.choice(sorted((study.folder / "runs").iterdir())))
        where = f"trial {trial}"
        for _ in range(draw.choice((1, 2, 3))):
            _, where = damage_one(draw, files_below(kept_cache), where)
        check_repair(study, where)
