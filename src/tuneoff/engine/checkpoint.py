"""Checkpoints of a training: the best state so far, and the last state, from which an interrupted run resumes.

Files are written atomically: to a temporary file, synced, then renamed. Each contains a digest of its content, so a
damaged file is never used. The format is safetensors, which cannot contain code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

BEST_STATE = "best-{step}.safetensors"
_LAST_STATE = "checkpoint.safetensors"
_MIN_SECONDS = 60.0  # between two checkpoints
_MAX_TIME_FRACTION = 0.02  # of the training time may be spent on checkpoints


class DamagedState(Exception):
    """A file that does not contain a complete state."""


def write_state(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and metadata that JSON can represent.

    Raises `OSError` if the file cannot be written; an existing file is then unchanged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = json.dumps(about, sort_keys=True, allow_nan=False)
    part = path.with_name(f".{path.name}.part")
    try:
        save_file(plain, part, metadata={"about": metadata, "digest": _digest(plain, metadata)})
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
    except SafetensorError as error:  # raised when the disk is full, for example
        raise OSError(str(error)) from error
    finally:
        part.unlink(missing_ok=True)


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and metadata of `write_state`.

    Raises `FileNotFoundError`, or `DamagedState` if the file is not a complete state.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if _digest(tensors, metadata["about"]) != metadata["digest"]:
            raise DamagedState(f"{path.name}: its content has changed")
        about: dict[str, Any] = json.loads(metadata["about"])
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise DamagedState(f"{path.name}: {error}") from error
    return tensors, about


def _digest(tensors: Mapping[str, Tensor], about: str) -> str:
    digest = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class Checkpoints:
    """The last state of one training, in the folder of its run."""

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any] | None = None,
        *,
        note: Callable[[str], None] = lambda _text: None,
        min_seconds: float = _MIN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep the last state in `folder`.

        Args:
            folder: of the run. It also holds the best states, which the trainer writes.
            identity: training resumes only from a state with the same identity. None disables checkpoints; the best
                state is then deleted when training ends.
            note: receives messages for the user.
            min_seconds: shortest time between two checkpoints.
            clock: returns the time in seconds.
        """
        self.folder = folder
        self._path = folder / _LAST_STATE
        self._identity, self.note = identity, note
        self._min_seconds, self._clock = min_seconds, clock
        self._next = clock() + min_seconds
        self._write_failed = False

    @property
    def exists(self) -> bool:
        """Whether a last state is on disk."""
        return self._path.exists()

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The last state of an earlier attempt at the same training, or None. Any other state is deleted."""
        if self._identity is None:
            return None
        try:
            tensors, about = read_state(self._path)
        except FileNotFoundError:
            return None
        except DamagedState as error:
            self.note(f"the checkpoint of an interrupted attempt is damaged ({error}); training started again")
        else:
            if about.pop("identity", None) == self._identity:
                return tensors, about
            self.note(
                "the checkpoint of an interrupted attempt used another number format or device; training started again"
            )
        self.delete()
        return None

    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return self._identity is not None and self._clock() >= self._next

    def save(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bool:
        """Replace the last state. Returns False if it cannot be written; the first such failure is noted."""
        began, saved = self._clock(), True
        try:
            write_state(self._path, tensors, {**about, "identity": self._identity})
        except OSError as error:
            saved = False
            if not self._write_failed:
                self.note(f"no checkpoint could be written, so an interrupted run will start again: {error}")
            self._write_failed = True
        ended = self._clock()
        self._next = ended + max(self._min_seconds, (ended - began) / _MAX_TIME_FRACTION)
        return saved

    def delete(self) -> None:
        """Delete the last state and all best states."""
        for file in (self._path, *self.folder.glob(BEST_STATE.format(step="*"))):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
