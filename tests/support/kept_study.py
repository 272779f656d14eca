"""A study whose folder and cache are kept as they are, so that each trial can change a copy of them."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from support.warm_study import WarmStudy


@dataclass(frozen=True)
class KeptStudy:
    """A study, and a copy of its folder and of its cache as they are before a trial."""

    study: WarmStudy
    kept: Path
    cache: Path

    @classmethod
    def of(cls, study: WarmStudy, cache: Path) -> Self:
        """Keep the folder of the study and the cache as they are now."""
        folder, kept_cache = study.folder.with_name("kept"), study.folder.with_name("cache")
        shutil.copytree(study.folder, folder)
        shutil.copytree(cache, kept_cache)
        return cls(study, folder, kept_cache)

    def restore(self, cache: Path) -> None:
        """Put the copies back: the folder of the study, and its cache at `cache`."""
        self.study.remove()
        shutil.copytree(self.kept, self.study.folder)
        shutil.rmtree(cache, ignore_errors=True)
        shutil.copytree(self.cache, cache)


def check_repair(study: WarmStudy, where: str, *, named: Path | None = None) -> None:
    """The same command ends as if nothing had happened, and names what was damaged."""
    last = study.finished()
    assert last.code == 0, f"{where}: {last.code}, {last.said}"
    assert "Traceback" not in last.said, f"{where}: {last.said}"
    assert not study.faults(), f"{where}: {study.faults()}, {last.said}"
    print(where, flush=True)
    if named is not None:
        words = (named.name, named.parent.name, named.parents[1].name)
        assert any(word in last.said for word in words), f"{where} was not said: {last.said!r}"
