"""States of a training on disk: the best one so far, and the last one, from which an interrupted run goes on.

A file is written beside its place, synced and renamed, so there is the last whole state or none. It holds a digest of
all else: a damaged file is never taken. Nothing in it is code (safetensors).
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

BEST = "best-{step}.safetensors"
_FILE = "checkpoint.safetensors"
_LEAST_SECONDS = 60.0  # between two states
_SHARE = 0.02  # of the time may go into keeping states


class Damaged(Exception):
    """A file that is no whole state."""


def write(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and what JSON can say about them. Raises `OSError`; what was there before is then still there."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    told = json.dumps(about, sort_keys=True, allow_nan=False)
    part = path.with_name(f".{path.name}.part")
    try:
        save_file(plain, part, metadata={"about": told, "digest": _digest(plain, told)})
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
    except SafetensorError as error:  # how a full disk is told
        raise OSError(str(error)) from error
    finally:
        part.unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and what was said about them. Raises `FileNotFoundError`, and `Damaged` for what is no whole state."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if _digest(tensors, told["about"]) != told["digest"]:
            raise Damaged(f"{path.name}: its content has changed")
        about: dict[str, Any] = json.loads(told["about"])
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise Damaged(f"{path.name}: {error}") from error
    return tensors, about


def _digest(tensors: Mapping[str, Tensor], about: str) -> str:
    digest = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class Checkpoints:
    """The last state of one training in the folder of its run."""

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any] | None = None,
        *,
        note: Callable[[str], None] = lambda _text: None,
        least_seconds: float = _LEAST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`identity`: what must be the same for a state to be gone on from; None: no state is kept but the best one.
        `note` is told what a person should know."""
        self.folder = folder
        self._path = folder / _FILE
        self._identity, self.note = identity, note
        self._least, self._clock = least_seconds, clock
        self._next = clock() + least_seconds
        self._refused = False

    @property
    def there(self) -> bool:
        """Whether a state is kept."""
        return self._path.exists()

    def find(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The state that an earlier attempt at the same training has left; any other is deleted."""
        if self._identity is None:
            return None
        try:
            tensors, about = read(self._path)
        except FileNotFoundError:
            return None
        except Damaged as error:
            self.note(f"the state of an interrupted attempt could not be used ({error}); the run began anew")
        else:
            if about.pop("identity", None) == self._identity:
                return tensors, about
            self.note("an interrupted attempt was computed otherwise (number format or device); the run began anew")
        self.forget()
        return None

    def due(self) -> bool:
        """Whether it is time to keep a state."""
        return self._identity is not None and self._clock() >= self._next

    def keep(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bool:
        """Keep this state in the place of the last one. False when the disk refuses, which is noted once."""
        began, kept = self._clock(), True
        try:
            write(self._path, tensors, {**about, "identity": self._identity})
        except OSError as error:
            kept = False
            if not self._refused:
                self.note(f"the state of the training could not be kept, in case it is interrupted: {error}")
            self._refused = True
        ended = self._clock()
        self._next = ended + max(self._least, (ended - began) / _SHARE)
        return kept

    def forget(self) -> None:
        """Delete the state, and the best ones that it could go back to."""
        for file in (self._path, *self.folder.glob(BEST.format(step="*"))):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
