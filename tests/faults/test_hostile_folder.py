"""Two study folders that were made to do harm, with digests that fit: commands read or refuse them, and nothing else.

One leads out of its folder and asks to run code; the other holds numbers, nesting and texts that take time and memory.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.warm_command import WarmCommand, limited
from support.warm_study import WarmStudy
from tuneoff.results.manifest import MANIFEST, FileEntry, Manifest, entry_of_file, manifest_text, parse_manifest

_MOST_SECONDS = 100.0
# Codes that act on a terminal, and marks of direction; line feeds and tabs are text.
_ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_TEXT = (
    "\x1b]0;x\x07\x1b[2J\u202e{{ 7*7 }} {document.__class__} ${IFS} `id` %s %n "
    "</script><script>x()</script> ../../x\r\n"
)


@dataclass(frozen=True)
class Prey:
    """What must be as it was: a file and a folder outside, and a file that code of a stranger would make."""

    folder: Path

    @property
    def file(self) -> Path:
        return self.folder / "precious.jsonl"

    @property
    def canary(self) -> Path:
        return self.folder / "canary"

    def put(self) -> None:
        self.folder.mkdir()
        self.file.write_text('{"id": "d32", "text": "SECRET"}\n')

    def is_untouched(self) -> bool:
        return [path.name for path in self.folder.iterdir()] == [self.file.name] and "SECRET" in self.file.read_text()


Harm = Callable[[Path, Prey], None]


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def run_of(study: Path, method: str) -> Path:
    return next(path for path in sorted((study / "runs").iterdir()) if path.name.startswith(method))


def shows_secret(page: Path) -> bool:
    """Whether a text of elsewhere is on a page. A page that is a link or a hole is the stranger's."""
    if page.is_symlink() or not page.is_file() or page.stat().st_size > 10**9:
        return False
    return "SECRET" in page.read_text()


def cover(study: Path) -> None:
    """Write manifests as if tuneoff had written every file."""
    for folder in (*(study / "runs").iterdir(), study):
        if folder.is_dir() and not folder.is_symlink():
            (folder / MANIFEST).unlink(missing_ok=True)
            files = {
                path.relative_to(folder).as_posix(): entry_of_file(path)
                for path in folder.rglob("*")
                if path.is_file() and not path.is_symlink() and path.name not in (".lock", "log.txt", "events.jsonl")
            }
            (folder / MANIFEST).write_text(manifest_text(Manifest(files=files)))


def _names_files_outside(study: Path, prey: Prey) -> None:
    files = [os.path.relpath(prey.file, run_of(study, "few_shot") / "artefact"), "shots.json"]
    change(run_of(study, "few_shot") / "record.json", lambda record: record["artefact"].update(files=files))


def _asks_to_run_code(study: Path, prey: Prey) -> None:
    model = study / "model"
    model.mkdir()
    (model / "evil.py").write_text(f"open({str(prey.canary)!r}, 'w').close()\n")
    code = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M", "AutoTokenizer": ["evil.T", "evil.T"]}
    for name in ("config.json", "tokenizer_config.json"):
        (model / name).write_text(json.dumps({"auto_map": code, "model_type": "evil", "tokenizer_class": "T"}))
    asked = {"name": str(model), "trust_remote_code": True}
    change(run_of(study, "lora") / "record.json", lambda record: record["spec"]["model"].update(asked))


def _names_systems_outside(study: Path, prey: Prey) -> None:
    change(study / "study.json", lambda spec: spec.update(predictions={"../../prey/precious": "../../x"}))
    (study / "outside").mkdir(exist_ok=True)
    (study / "outside" / "api.jsonl").symlink_to(prey.file)


def _lists_runs_outside(study: Path, prey: Prey) -> None:
    change(study / "plan.json", lambda plan: plan.update(runs=[*plan["runs"], "../../..", "/etc", "linked"]))
    (study / "runs" / "linked").symlink_to(prey.folder)


def _links_its_pages(study: Path, prey: Prey) -> None:
    for name in ("report.html", "rating.html", "summary.json", "outputs.json", "budget.json", ".lock"):
        (study / name).unlink(missing_ok=True)
        (study / name).symlink_to(prey.file)


def _links_its_folders(study: Path, prey: Prey) -> None:
    for name in ("figures", "damaged", "outside"):
        shutil.rmtree(study / name, ignore_errors=True)
        (study / name).symlink_to(prey.folder)


def _links_its_logs(study: Path, prey: Prey) -> None:
    for name in ("events.jsonl", "log.txt"):
        (run_of(study, "lora") / name).unlink()
        (run_of(study, "lora") / name).symlink_to(prey.file)
    (run_of(study, "few_shot") / "events.jsonl").unlink()
    os.mkfifo(run_of(study, "few_shot") / "events.jsonl")
    (run_of(study, "lora") / "record.json").unlink()  # so that it is done again


def _links_devices(study: Path, _prey: Prey) -> None:
    (study / "ratings.json").symlink_to("/dev/zero")
    for path in (study / "documents.jsonl", run_of(study, "lora") / "predictions.jsonl"):
        path.unlink()
        path.symlink_to("/dev/zero")


def _names_holes(study: Path, _prey: Prey) -> None:
    """Files of ten terabytes that take no room, with entries that fit them."""
    lora, few_shot = run_of(study, "lora"), run_of(study, "few_shot")
    holes = (
        *(study / name for name in ("documents.jsonl", "report.html", "summary.json", "data.json")),
        *(lora / name for name in ("predictions.jsonl", "artefact/adapter_model.safetensors")),
        *(few_shot / name for name in ("record.json", "artefact/shots.json")),
    )
    for path in holes:
        os.truncate(path, 10**13)
    for folder in (lora, few_shot, study):
        files = {path.relative_to(folder).as_posix(): path for path in holes if path.is_relative_to(folder)}
        fitting = {name: FileEntry(sha256="0" * 64, bytes=10**13) for name in files}
        if folder == study:
            runs = [run / MANIFEST for run in (lora, few_shot)]
            fitting |= {path.relative_to(study).as_posix(): entry_of_file(path) for path in runs}
        manifest = parse_manifest((folder / MANIFEST).read_bytes(), folder / MANIFEST)
        text = manifest_text(manifest.model_copy(update={"files": {**manifest.files, **fitting}}))
        (folder / MANIFEST).write_text(text)


def _holds_huge_numbers(study: Path, _prey: Prey) -> None:
    def spoil(record: dict[str, Any]) -> None:
        record["scores"] = {**record["scores"], "rouge1": 1e308, "x" * 100_000: -1e308, _TEXT: 1e-320}
        for point in record["curve"]["train"]:
            point.update(step=10**18, seconds=1e308, loss=1e308)
        record["curve"].update(best_step=-(10**18), best_validation_loss=1e308)
        record["resources"]["peak_memory_bytes"] = 10**300

    change(run_of(study, "lora") / "record.json", spoil)
    (run_of(study, "lora") / "events.jsonl").write_text('{"kind": "step", "step": 1e400}\n' * 50_000)
    change(study / "data.json", lambda data: data.update(counts={"train": 10**300, "validation": -1}))


def _nests_deeply(study: Path, _prey: Prey) -> None:
    deep = json.loads("[" * 400 + "]" * 400)
    change(run_of(study, "lora") / "record.json", lambda record: record["details"].update(deep=deep))
    (study / "budget.json").write_text("[" * 200_000)
    (study / "ratings.json").write_text('{"ratings": [' + '{"id": 1e999},' * 100_000 + "{}]}")


def _holds_codes_and_templates(study: Path, _prey: Prey) -> None:
    for method in ("few_shot", "lora"):
        change(run_of(study, method) / "record.json", lambda record: record.update(notes=[_TEXT * 50], name=_TEXT))
    change(study / "data.json", lambda data: data.update(description=_TEXT, cautions=[_TEXT] * 1000))
    change(
        study / "study.json",
        lambda spec: spec["prompt"].update(instruction=_TEXT.replace("{", "{{").replace("}", "}}")),
    )
    _exchange_texts(study, (_TEXT * 2_000,))


def _holds_slow_texts(study: Path, _prey: Prey) -> None:
    _exchange_texts(study, ("a" * 200_000 + "!", "A. " * 70_000, "(((((" * 50_000, "<" * 200_000, " " * 200_000))


def _exchange_texts(study: Path, texts: tuple[str, ...]) -> None:
    for path, key in (
        (run_of(study, "few_shot") / "predictions.jsonl", "text"),
        (study / "documents.jsonl", "document"),
    ):
        rows = [json.loads(row) for row in path.read_text().splitlines()]
        changed = [{**row, key: texts[at % len(texts)]} for at, row in enumerate(rows)]
        path.write_text("".join(json.dumps(row) + "\n" for row in changed))


def _links_its_texts(study: Path, _prey: Prey) -> None:
    """Texts of somewhere else, which a report would show, and a run that is one of another study."""
    for path in (study / "documents.jsonl", run_of(study, "few_shot") / "predictions.jsonl"):
        if path.is_symlink():  # another harm was first
            continue
        rows = [json.loads(row) for row in path.read_text().splitlines()]
        key = "document" if path.name == "documents.jsonl" else "text"
        (study.parent / path.name).write_text("".join(json.dumps({**row, key: "SECRET"}) + "\n" for row in rows))
        path.unlink()
        path.symlink_to(study.parent / path.name)
    (study / "runs" / "lora-s9-0000000000000000").symlink_to(run_of(study, "lora"))


def _lists_other_files_as_artefact(study: Path, prey: Prey) -> None:
    run = run_of(study, "lora")
    names = ("x.gguf", "big", "adapter_model.bin", "ssh/precious.jsonl")
    (run / "artefact" / "ssh").mkdir()
    for name, target in zip(names, (prey.file, Path("/dev/zero"), prey.file, prey.file), strict=True):
        (run / "artefact" / name).symlink_to(target)
    change(run / "record.json", lambda record: record["artefact"]["files"].extend(names))
    _prepares_an_export(study, prey)


def _prepares_an_export(study: Path, prey: Prey) -> None:
    """The folder that the export of the trial goes to."""
    (study / "exported").unlink(missing_ok=True)
    (study / "exported").symlink_to(prey.folder)


HARMS = {
    "leads outside": (
        *(_lists_other_files_as_artefact, _prepares_an_export, _names_files_outside, _asks_to_run_code),
        *(_names_systems_outside, _lists_runs_outside, _links_its_pages, _links_its_folders, _links_its_logs),
        *(_links_devices, _links_its_texts),
    ),
    "exhausts": (_holds_huge_numbers, _nests_deeply, _holds_codes_and_templates, _holds_slow_texts),
}
_WITHOUT_DIGEST = {_links_devices, _names_holes}  # reading them for one would never end
ALONE = [(each,) for harms in HARMS.values() for each in harms] + [(_names_holes,)]


@pytest.fixture(scope="module")
def whole(full: bool, warm_flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmStudy]:
    if not full:
        pytest.skip("one of the trials of `make faults`")
    study = WarmStudy.carried_out([*warm_flags, "--methods=few_shot,lora"], tmp_path_factory.mktemp("whole"))
    assert study.command.carry_out().code == 0
    yield study
    study.remove()


@pytest.mark.parametrize(
    "harms", [*HARMS.values(), *ALONE], ids=lambda harms: "+".join(each.__name__ for each in harms)
)
def test_a_folder_of_a_stranger_does_nothing(whole: WarmStudy, harms: tuple[Harm, ...], tmp_path: Path) -> None:
    prey, spoiled, study, here = (tmp_path / name for name in ("prey", "spoiled", "study", "here"))
    outside = Prey(prey)
    outside.put()
    here.mkdir()
    shutil.copytree(whole.folder, spoiled)
    covers = not _WITHOUT_DIGEST.issuperset(harms)
    if not covers:
        cover(spoiled)
    for harm in harms:
        harm(spoiled, outside)
    if covers:
        cover(spoiled)
    text = tmp_path / "text.txt"
    text.write_text("A river rose by two metres in one night.")
    commands = [
        *(("judge", "DIR"), ("judge", "DIR", "--json"), ("report", "DIR"), ("verify", "DIR")),
        *(("diff", "DIR", str(whole.folder)), ("doctor", "DIR", "--strict")),
        *(("summarize", "DIR", str(text), "--method", name) for name in ("few_shot", "lora")),
        ("export", "DIR", "--to", "adapter", "--method", "lora", "--no-check", "--output", "DIR/exported"),
        ("compare", *whole.flags, "--output=DIR", "--no-texts", "--quiet"),
    ]
    for words in commands:
        shutil.rmtree(study, ignore_errors=True)
        subprocess.run(["cp", "-a", str(spoiled), str(study)], check=True)
        command = WarmCommand([word.replace("DIR", str(study)) for word in words], study, tmp_path / "said")
        running = command.start(limited, cwd=here)
        code = running.wait(_MOST_SECONDS)
        where = f"{words[0]}: {code}, {running.said[-2000:]}"
        assert running.all_ended(), f"{where}: it does not end"
        assert code in (0, 1, 2, 3), where
        assert "Traceback" not in running.said, where
        assert not _ACTS.search(running.said), f"{words[0]}: {running.said[-2000:]!r}"
        assert outside.is_untouched(), where
        assert not list(here.iterdir()), where
        assert not shows_secret(study / "report.html"), where
        print(words[0], code, running.said.strip().splitlines()[-1:], flush=True)
