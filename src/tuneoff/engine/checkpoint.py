"""Checkpoints of a training: the best state so far, and the last two states, from which an interrupted run resumes.

Files are written atomically: to a temporary file, synced, then renamed. Each contains a digest of its content, so a
damaged file is never used. The format is safetensors, which cannot contain code.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tuneoff.errors import UserError
from tuneoff.regular_files import check_filled, open_regular
from tuneoff.results.json_files import new_file_mode, sync_folder
from tuneoff.saved_tensors import saving
from tuneoff.text import join_words

BEST_STATE = "best-{step}.safetensors"
_LAST_STATE = "checkpoint.safetensors"
_OLDER_STATE = "checkpoint-older.safetensors"
_NEW_STATE = "checkpoint-new.safetensors"
MOST_HEADER_BYTES = 100_000_000  # of a safetensors file
_MIN_SECONDS = 60.0  # between two checkpoints
_MAX_TIME_FRACTION = 0.02  # of the training time may be spent on checkpoints


class DamagedState(Exception):
    """A file that does not contain a complete state."""


class UnfitState(Exception):
    """A complete state that does not belong to the training that reads it. The message says what differs."""


def write_state(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and metadata that JSON can represent.

    Raises `OSError` if the file cannot be written; an existing file is then unchanged.
    """
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = json.dumps(about, sort_keys=True, allow_nan=False)
    part = path.with_name(f".{path.name}.part")
    try:
        with saving(path, sum(tensor.nbytes for tensor in plain.values())):
            save_file(plain, part, metadata={"about": metadata, "digest": _digest(plain, metadata)})
        with part.open("rb+") as stream:
            header = int.from_bytes(stream.read(8), "little")
            if header > MOST_HEADER_BYTES:  # it can be written and not be read
                why = f"its header would have {header:,} bytes, and safetensors reads {MOST_HEADER_BYTES:,}"
                raise OSError(errno.EFBIG, why, str(path))
            os.fsync(stream.fileno())
        part.chmod(new_file_mode(path.parent))  # safetensors writes files that only their owner can read
        part.replace(path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and metadata of `write_state`.

    Raises `FileNotFoundError`, or `DamagedState` if the file is not a complete state.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with open_regular(path) as stream:  # safetensors would wait for the writer of a pipe, and make room for a hole
            check_filled(path.name, stream.fileno())
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if _digest(tensors, metadata["about"]) != metadata["digest"]:
            raise DamagedState(f"{path.name}: its content has changed")
        about: dict[str, Any] = json.loads(metadata["about"])
        if not isinstance(about, dict):
            raise DamagedState(f"{path.name}: says nothing about its training")
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, UserError, KeyError, ValueError, RecursionError) as error:
        raise DamagedState(f"{path.name}: {error}") from error
    return tensors, about


def check_same_tensors(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str) -> None:
    """Raise `UnfitState` unless both have the same names, shapes and types."""
    if found.keys() != wanted.keys():
        name = min(found.keys() ^ wanted.keys())
        raise UnfitState(f"{what} {name} is {'missing' if name in wanted else 'unknown'}")
    for name, tensor in wanted.items():
        one, other = (found[name].dtype, *found[name].shape), (tensor.dtype, *tensor.shape)
        if one != other:
            raise UnfitState(f"{what} {name} has another shape or type")


def _digest(tensors: Mapping[str, Tensor], about: str) -> str:
    digest = hashlib.sha256(about.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class Checkpoints:
    """The last two states of one training, in the folder of its run. The older one is used if the newer is damaged."""

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, str] | None = None,
        *,
        note: Callable[[str], None] = lambda _text: None,
        min_seconds: float = _MIN_SECONDS,
        writes: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep the last states in `folder`.

        Args:
            folder: of the run. It also holds the best states, which the trainer writes.
            identity: what a number of the training depends on, by the words of a message. Training resumes only from a
                state with the same identity. None disables checkpoints; the best state is then deleted when training
                ends.
            note: receives messages for the user.
            min_seconds: shortest time between two checkpoints.
            writes: False for a process that only reads what another one writes.
            clock: returns the time in seconds.
        """
        self.folder = folder
        self._path, self._older = folder / _LAST_STATE, folder / _OLDER_STATE
        self._identity, self.note = identity, note
        self._min_seconds, self._clock, self._writes = min_seconds, clock, writes
        self._next = clock() + min_seconds
        self._write_failed = False

    @property
    def exists(self) -> bool:
        """Whether a state is on disk."""
        return self._path.exists() or self._older.exists()

    def resume(self, take: Callable[[dict[str, Tensor], dict[str, Any]], None]) -> bool:
        """Give the newest usable state of an earlier attempt to `take`; whether there was one.

        `take` raises `UnfitState`, before it changes anything, for a state that it cannot use. States that cannot be
        used are deleted, and the user is informed.
        """
        if self._identity is None:
            return False
        self._delete_parts()
        reasons: list[str] = []
        for path in (self._path, self._older):
            try:
                tensors, about = read_state(path)
                self._check_identity(about.pop("identity", None))
                take(tensors, about)
            except FileNotFoundError:
                continue
            except DamagedState as error:
                reasons.append(f"is damaged ({error})")
            except UnfitState as error:
                reasons.append(f"does not fit ({error})")
            else:
                if reasons:
                    self.note(f"the newest state of an interrupted attempt {reasons[0]}; the one before it was used")
                return True
            if self._writes:
                with contextlib.suppress(OSError):  # otherwise the next save would keep it, and drop a good one
                    path.unlink()
        if reasons:
            self.note(f"the state of an interrupted attempt {reasons[0]}; training started again")
        self.delete()
        return False

    def _check_identity(self, found: object) -> None:
        assert self._identity is not None
        if found == self._identity:
            return
        if not isinstance(found, dict):
            raise UnfitState("it was written by another version of tuneoff")
        other = [name for name in (*self._identity, *found) if found.get(name) != self._identity.get(name)]
        raise UnfitState("it was written with another " + join_words(list(dict.fromkeys(other))))

    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return self._identity is not None and self._writes and self._clock() >= self._next

    def save(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bool:
        """Write a state, and keep the one before it. Returns False if it cannot be written; the first such failure is
        noted. Does nothing without an identity."""
        if self._identity is None or not self._writes:
            return False
        began, saved = self._clock(), True
        try:
            self._write(tensors, {**about, "identity": self._identity})
        except OSError as error:
            saved = False
            if not self._write_failed:
                self.note(f"no checkpoint could be written, so an interrupted run will start again: {error}")
            self._write_failed = True
        ended = self._clock()
        self._next = ended + max(self._min_seconds, (ended - began) / _MAX_TIME_FRACTION)
        return saved

    def _write(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        newest = self._path.with_name(_NEW_STATE)
        try:
            write_state(newest, tensors, about)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not (self._path.exists() and self._older.exists()):
                raise
            self._older.unlink()  # a new state is worth more than the oldest one
            write_state(newest, tensors, about)
        if self._path.exists():
            self._path.replace(self._older)
        newest.replace(self._path)
        sync_folder(self.folder)

    def _delete_parts(self) -> None:
        """Delete what a process that was killed left while it wrote a state."""
        if not self._writes:
            return
        for pattern in (f".{_NEW_STATE}*", _NEW_STATE, f".{BEST_STATE.format(step='*')}*", ".tmp*"):
            for file in self.folder.glob(pattern):
                with contextlib.suppress(OSError):
                    file.unlink()

    def delete(self) -> None:
        """Delete the last states and all best states."""
        if not self._writes:
            return
        self._delete_parts()
        for file in (self._path, self._older, *self.folder.glob(BEST_STATE.format(step="*"))):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
