"""Whether a study through another engine has the results of a local one, file by file."""

import json
from pathlib import Path
from typing import Any

from support.study_results import results_of
from tuneoff.results.summary import Summary


def engine_differences(local: Path, other: Path) -> list[str]:
    """The names of the files that are missing, new or different in `other`; of those in `slurm/`, none is expected."""
    ours, theirs = _comparable_files(local), _comparable_files(other)
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def _comparable_files(folder: Path) -> dict[str, bytes]:
    found = {name: content for name, content in results_of(folder).items() if not name.startswith("slurm/")}
    return {
        name: _sorted(content) if name.endswith("adapter_config.json") else content for name, content in found.items()
    }


def _sorted(content: bytes) -> bytes:
    """PEFT lists the modules as they come out of a set, which differs from one interpreter to the next."""
    settings = json.loads(content)
    settings["target_modules"].sort()
    return json.dumps(settings, sort_keys=True).encode()


_ROW = ("name", "kind", "model", "seeds", "status", "runs", "gain", "scores", "best_epoch", "validation_loss")
_VERDICT = ("pairs", "best", "best_set", "smallest_detectable", "smallest_margin", "seeds", "documents", "identical")


def quality_of(summary: Summary) -> dict[str, Any]:
    """What a summary says of quality, without times and resources, and what is recommended because of them."""
    plain = summary.model_dump(mode="json")
    return {
        "rows": [{key: row[key] for key in _ROW} for row in plain["rows"]],
        "verdicts": [{key: verdict[key] for key in _VERDICT} for verdict in plain["verdicts"]],
    }
