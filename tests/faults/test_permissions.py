"""Every file and folder of a study has the permissions of the user's umask, also while it is under way."""

import os
import random
from pathlib import Path

from support.warm_command import Role
from support.warm_study import WarmStudy, states_at_each_step

# What a killed process had not finished: nobody reads it.
_UNFINISHED = (".tuneoff-", ".tmp", ".checkpoint", ".best-")
MASKS = (0o027, 0o002, 0o077)


def _is_unfinished(path: Path) -> bool:
    """Whether it is in what a run leaves for use, and the run has no record yet: the next start makes it again."""
    return path.parent.name == "artefact" and not (path.parents[1] / "record.json").exists()


def other_permissions(folder: Path, mask: int) -> list[str]:
    """What below a folder has permissions that do not follow from the umask."""
    return [
        f"{path.relative_to(folder)}: {path.stat().st_mode & 0o777:o}"
        for path in sorted(folder.rglob("*"))
        if not path.name.startswith(_UNFINISHED)
        and not _is_unfinished(path)
        and path.stat().st_mode & 0o777 != (0o777 if path.is_dir() else 0o666) & ~mask
    ]


def test_files_of_a_study_follow_the_umask(warm_study: WarmStudy, full: bool, seed: int) -> None:
    """It is killed when states are there, which another user of the group may then continue."""
    draw, found = random.Random(23 + seed), set[str]()
    states = [at for at, mark in enumerate(warm_study.marks, 1) if mark.what.endswith("checkpoint-older.safetensors")]
    for trial in range(30 if full else 1):
        mask = MASKS[trial % len(MASKS)]

        def prepare(role: Role, mask: int = mask) -> None:
            states_at_each_step(role)
            if role == "parent":
                os.umask(mask)

        running = warm_study.command.start(prepare)
        running.wait_for(draw.randint(states[0], states[-1]))
        running.kill("group")
        running.wait()
        assert running.all_ended()
        where = f"trial {trial}, umask {mask:03o}"
        found |= {path.name for path in warm_study.folder.rglob("*") if path.is_file()}
        assert not other_permissions(warm_study.folder, mask), where
        last = warm_study.finished(prepare)
        assert last.code == 0, f"{where}: {last.said}"
        assert not other_permissions(warm_study.folder, mask), where
        found |= {path.name for path in warm_study.folder.rglob("*") if path.is_file()}
        warm_study.remove()
        print(where, flush=True)
    assert {"checkpoint.safetensors", "events.jsonl", "log.txt", "record.json", "report.html", ".lock"} <= found
