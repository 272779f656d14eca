"""Pictures of charts, drawn in a process of their own.

The library that draws (vl_convert) contains a JavaScript engine that reserves 64 GB of addresses and aborts the process
where it may not: under `ulimit -v`, as clusters set it. A report must not be lost for that. This file is also the
program of that process; it imports nothing of tuneoff, so it starts at once.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class Pictures:
    """Files that were drawn, in the order of the charts. `problem` says why some are missing; None if none is."""

    paths: tuple[Path, ...]
    problem: str | None


def draw_pictures(
    drawings: Mapping[str, Mapping[str, Any]], folder: Path, timeout_seconds: float = TIMEOUT_SECONDS
) -> Pictures:
    """Draw Vega-Lite specifications as `<name>.png` (twice the nominal resolution) and `<name>.svg` into `folder`.

    A crash, a missing package and a timeout are a `problem`; older pictures that were not drawn again are deleted.
    """
    if not drawings:
        return Pictures((), None)
    wanted = [folder / f"{name}{ending}" for name in drawings for ending in (".png", ".svg")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in wanted:
            path.unlink(missing_ok=True)
    except OSError as error:
        return Pictures((), f"{folder}: {error.strerror}")
    message = json.dumps({"path": sys.path, "folder": str(folder.absolute()), "drawings": drawings})
    try:
        done = subprocess.run(  # noqa: S603 - this very Python
            [sys.executable, "-P", "-W", "ignore", __file__],
            input=message.encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=timeout_seconds,
            check=False,
        )
        problem = _problem(done)
    except subprocess.TimeoutExpired:
        problem = f"drawing took more than {timeout_seconds:g} s"
    except OSError as error:  # no memory for another process, for example
        problem = f"no process could be started ({error.strerror})"
    if problem is not None:
        for path in wanted:
            _unfinished(path).unlink(missing_ok=True)
    return Pictures(tuple(path for path in wanted if path.exists()), problem)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}")


def _problem(done: "subprocess.CompletedProcess[bytes]") -> str | None:
    """Why the process ended early; None if it did not."""
    if done.returncode == 0:
        return None
    if done.returncode > 0:
        lines = [line.strip() for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
        return f"the drawing process failed ({lines[-1] if lines else f'exit code {done.returncode}'})"
    number = -done.returncode
    name = signal.Signals(number).name if number in signal.valid_signals() else f"signal {number}"
    why = "; the JavaScript engine in it needs 64 GB of addresses, and `ulimit -v` allows less" if _limited() else ""
    return f"the drawing process was ended by {name}{why}"


def _limited() -> bool:
    """Whether this process may use a limited number of addresses."""
    if sys.platform == "win32":
        return False
    import resource

    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def _draw() -> None:
    """The drawing process: one message on stdin. Each file appears complete under its name, or not at all."""
    message = json.load(sys.stdin.buffer)
    sys.path[:] = message["path"]
    import vl_convert

    folder = Path(message["folder"])
    for name, drawing in message["drawings"].items():
        picture = vl_convert.vegalite_to_svg(drawing)
        for ending, content in ((".svg", picture.encode()), (".png", vl_convert.svg_to_png(picture, scale=2))):
            path = folder / f"{name}{ending}"
            _unfinished(path).write_bytes(content)
            _unfinished(path).replace(path)


if __name__ == "__main__":
    _draw()
