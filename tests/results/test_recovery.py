"""Whatever file of a study is damaged: readers refuse it by name, and the next start moves it aside and says so."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.damage import DAMAGES, content, write_study
from tuneoff.errors import UserError
from tuneoff.results import manifest
from tuneoff.results.events import read_events
from tuneoff.results.json_files import LaterVersion
from tuneoff.results.manifest import MANIFEST, Manifest, entry_of, manifest_text
from tuneoff.results.recovery import recover
from tuneoff.results.run_dir import RunDir
from tuneoff.results.study_dir import OUTPUTS, StudyDir


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StudyDir:
    return write_study(tmp_path_factory.mktemp("whole") / "study")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "_PAUSE_SECONDS", 0)  # nobody else writes here


@pytest.fixture
def folder(whole: StudyDir, tmp_path: Path) -> StudyDir:
    return StudyDir(shutil.copytree(whole.path, tmp_path / "study"))


def files_of(folder: StudyDir) -> list[str]:
    """The files that have a digest."""
    names = (path.relative_to(folder.path).as_posix() for path in folder.path.rglob("*") if path.is_file())
    return sorted(name for name in names if name != ".lock" and not name.endswith("/events.jsonl"))


def start(folder: StudyDir) -> list[str]:
    """What a start of the program says about the folder."""
    with StudyDir(folder.path).lock():
        return list(recover(StudyDir(folder.path)))


def test_a_whole_folder_is_left_alone(folder: StudyDir, whole: StudyDir) -> None:
    before = {name: (folder.path / name).read_bytes() for name in files_of(folder)}
    assert start(folder) == []
    assert {name: (folder.path / name).read_bytes() for name in files_of(folder)} == before
    assert content(folder) == content(whole)


def owner(name: str) -> str:
    """The part of the content that a file holds."""
    parts = name.replace("study.json", "spec.json").split("/")
    return parts[1] if parts[0] == "runs" else parts[0].partition(".")[0]


def test_every_damage_of_every_file_is_noticed(whole: StudyDir, tmp_path: Path) -> None:
    expected, trials = content(whole), 0
    # Read again from the study, never by judging; weights are checked before they are used.
    unread = {"summary.json", "report.html", "outputs.json", "search.json"}
    for name in files_of(whole):
        for kind, damage in {**DAMAGES, "gone": None}.items():
            trials += 1
            folder = StudyDir(shutil.copytree(whole.path, tmp_path / f"{trials}"))
            path = folder.path / name
            if damage is None:
                path.unlink()
            else:
                data = damage(path.read_bytes())
                path.write_bytes(data)
            what = f"{name} {kind}"
            try:
                assert content(folder) == expected, what
                assert name in unread or "artefact" in name or (name.endswith(MANIFEST) and kind == "gone"), what
            except UserError as error:
                assert name.rpartition("/")[2] in str(error), what  # noqa: PT017
                assert "run the same command again" in str(error), what  # noqa: PT017
            said = start(folder)
            after = content(folder)  # what is left is readable
            for key, value in expected.items():
                if key != owner(name):
                    assert after[key] == value, (what, key)
            # Without its only weights, a run was copied without them on purpose.
            if kind != "gone" or not any(part in name for part in ("outputs.json", "artefact")):
                assert any(name in line or name.split("/")[1] in line for line in said), (what, said)
            if damage is not None:
                aside = [path.read_bytes() for path in (folder.path / "damaged").rglob("*") if path.is_file()]
                assert data in aside or name.endswith(MANIFEST), what  # nothing that was there is deleted
            assert start(folder) == [], what
    assert trials == 7 * len(files_of(whole)) > 100


def test_files_of_another_run_are_damage(folder: StudyDir) -> None:
    one, other = sorted((folder.path / "runs").iterdir())
    for name in ("record.json", "predictions.jsonl"):
        (one / name).write_bytes((other / name).read_bytes())
        with pytest.raises(UserError, match="run the same command again"):
            content(folder)
    [line] = start(folder)
    assert line.startswith(f"runs/{one.name}: ")
    assert not one.exists()
    assert content(folder)[other.name]


def test_a_whole_run_in_the_place_of_another_is_damage(folder: StudyDir) -> None:
    one, other = sorted((folder.path / "runs").iterdir())
    shutil.rmtree(one)
    shutil.copytree(other, one)
    with pytest.raises(UserError, match=rf"{one.name}/manifest\.json: damaged"):
        content(folder)
    assert len(start(folder)) == 1


@pytest.mark.parametrize(
    "change", [lambda _text: "{", lambda text: text + "\n"], ids=["another", "the same in other bytes"]
)
def test_the_manifest_of_a_run_is_restored_without_computing_again(
    folder: StudyDir, whole: StudyDir, change: Callable[[str], str]
) -> None:
    run = sorted((folder.path / "runs").iterdir())[0]
    before = (run / MANIFEST).read_bytes()
    (run / MANIFEST).write_text(change(before.decode()))
    [line] = start(folder)
    assert f"runs/{run.name}/manifest.json was damaged" in line
    assert (run / MANIFEST).read_bytes() == before
    assert content(folder) == content(whole)


def test_weights_that_were_left_out_on_purpose_are_no_damage(folder: StudyDir, whole: StudyDir) -> None:
    for run in (folder.path / "runs").iterdir():
        shutil.rmtree(run / "artefact")
    assert start(folder) == []
    assert content(folder) == content(whole)


def test_a_record_of_a_later_version_is_refused_and_left_alone(folder: StudyDir) -> None:
    run = RunDir(sorted((folder.path / "runs").iterdir())[0])
    later = json.dumps({**json.loads((run.path / "record.json").read_bytes()), "new": 1})
    files = dict(run.covered.files) | {"record.json": entry_of(later.encode())}
    (run.path / "record.json").write_text(later)
    run.write_manifest(files)
    folder.cover_runs([run.name])
    for read in (lambda: StudyDir(folder.path).read_runs(skip_damaged=True), lambda: content(folder)):
        with pytest.raises(LaterVersion, match=r"later version of tuneoff \(it has the key 'new'\) and left as it is"):
            read()
    assert start(folder) == []
    assert (run.path / "record.json").read_text() == later


def test_a_record_of_a_later_version_without_digests_is_left_alone_too(folder: StudyDir) -> None:
    for path in folder.path.rglob(MANIFEST):
        path.unlink()
    record = sorted(folder.path.glob("runs/*/record.json"))[0]
    record.write_text(json.dumps({**json.loads(record.read_bytes()), "new": 1}))
    with pytest.raises(LaterVersion):
        start(folder)
    assert record.exists()


def test_a_folder_of_an_earlier_version_is_read_and_covered_from_then_on(folder: StudyDir, whole: StudyDir) -> None:
    for path in folder.path.rglob(MANIFEST):
        path.unlink()
    assert content(StudyDir(folder.path)) == content(whole)
    assert start(folder) == []
    assert start(folder) == []
    record = sorted(folder.path.glob("runs/*/record.json"))[0]
    record.write_bytes(record.read_bytes().replace(b"30", b"31") + b" ")
    with pytest.raises(UserError, match="damaged"):
        content(StudyDir(folder.path))
    [line] = start(folder)
    assert record.parent.name in line


def test_a_damaged_folder_of_an_earlier_version_is_repaired_too(folder: StudyDir) -> None:
    for path in folder.path.rglob(MANIFEST):
        path.unlink()
    record = sorted(folder.path.glob("runs/*/record.json"))[0]
    record.write_text("{")
    (folder.path / "plan.json").write_text("{")
    said = start(folder)
    assert [line.split()[0] for line in said] == ["plan.json", f"runs/{record.parent.name}:"]
    assert len(content(folder)) == 7


def test_a_manifest_of_a_stranger_moves_nothing_outside(folder: StudyDir) -> None:
    outside = folder.path.parent / "precious"
    outside.write_text("mine")
    text = manifest_text(Manifest.model_construct(files={"../precious": entry_of(b"")}))
    (folder.path / MANIFEST).write_text(text)
    start(folder)
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("listing", [MANIFEST, OUTPUTS])
def test_a_manifest_of_a_stranger_moves_nothing_behind_a_link(folder: StudyDir, listing: str) -> None:
    outside = folder.path.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    (folder.path / "linked").symlink_to(outside)
    (folder.path / listing).write_text(manifest_text(Manifest(files={"linked/precious": entry_of(b"")})))
    with pytest.raises(UserError, match=r"linked: a link, and tuneoff writes only inside"):
        start(folder)
    assert (outside / "precious").read_text() == "mine"


@pytest.mark.parametrize("gone", [1, 2])
def test_event_logs_that_are_gone_are_made_again(folder: StudyDir, whole: StudyDir, gone: int) -> None:
    runs = [folder.run_dir(path.name) for path in sorted((folder.path / "runs").iterdir())]
    for run in runs[:gone]:
        run.events.unlink()
    assert start(folder) == [
        f"runs/{run.name}/events.jsonl was missing; it is made again from the record" for run in runs[:gone]
    ]
    for run in runs:
        assert read_events(run.events) == read_events(whole.run_dir(run.name).events) != []
    assert start(folder) == []


def test_a_run_without_log_and_record_is_no_damage(folder: StudyDir) -> None:
    """It was killed between its manifest and its record."""
    run = RunDir(sorted((folder.path / "runs").iterdir())[0])
    folder.forget_runs([run.name])
    (run.path / "record.json").unlink()
    run.write_manifest({})
    run.events.unlink()
    assert start(folder) == []


def test_leftovers_of_killed_processes_are_removed(folder: StudyDir) -> None:
    run = sorted((folder.path / "runs").iterdir())[0]
    names = ["artefact/.tmpAb12", "best-4.safetensors", "checkpoint.safetensors", ".best-8.safetensors.part"]
    for name in names:
        (run / name).write_text("x")
    begun = folder.path / "runs" / "lora-s1"
    begun.mkdir()
    (begun / "checkpoint.safetensors").write_text("the state of a run that has not ended")
    (begun / ".tmpCd34").write_text("x")
    assert start(folder) == []
    assert not any((run / name).exists() for name in names)
    assert [path.name for path in begun.iterdir()] == ["checkpoint.safetensors"]


def test_a_run_that_was_being_done_again_is_not_damage(folder: StudyDir) -> None:
    """Its entries are gone before its files are, so no crash between two operations is taken for damage."""
    run = RunDir(sorted((folder.path / "runs").iterdir())[0])
    folder.forget_runs([run.name])
    run.discard_results()
    run.write_predictions([])
    assert start(folder) == []
