"""Finds weights that are NaN or infinite in the files of a model folder, without loading the model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tuneoff.cache import file_state_path
from tuneoff.errors import UserError
from tuneoff.model_folder import Tensor, files_of_weights, read_header
from tuneoff.model_weights import WITHOUT_EFFECT, not_finite
from tuneoff.regular_files import open_regular

# The bits of the exponent. They are all 1 in NaN and infinity, and in no other number.
_EXPONENTS = {"BF16": ("<u2", 0x7F80), "F16": ("<u2", 0x7C00), "F32": ("<u4", 0x7F800000), "F64": ("<u8", 0x7FF << 52)}
_READ_BYTES = 1 << 22


def check_finite(folder: Path) -> None:
    """Raise `UserError` if a model folder has weights that are NaN or infinite. Sound files are remembered."""
    for file in files_of_weights(folder):
        sound = file_state_path("finite", file)
        if sound.exists():
            continue
        tensors = sorted(read_header(file).items())
        damaged = [name for name, tensor in tensors if not WITHOUT_EFFECT.search(name) and _has_others(file, tensor)]
        if damaged:
            raise UserError(not_finite(file, damaged))
        with contextlib.suppress(OSError):  # a cache folder that cannot be written only costs time
            sound.parent.mkdir(parents=True, exist_ok=True)
            sound.touch()


def _has_others(file: Path, tensor: Tensor) -> bool:
    """Whether a tensor holds anything but finite numbers. Integers and kinds of 8 bits are not looked at."""
    if tensor.dtype not in _EXPONENTS:
        return False
    kind, exponent = _EXPONENTS[tensor.dtype]
    mask = np.array(exponent, dtype=kind)
    return any(bool(((part & mask) == mask).any()) for part in _parts(file, tensor, kind))


def _parts(file: Path, tensor: Tensor, kind: str) -> Iterator[np.ndarray[tuple[int], np.dtype[np.unsignedinteger]]]:
    with open_regular(file) as stream:
        stream.seek(tensor.start)
        left = tensor.bytes
        while left and (content := stream.read(min(left, _READ_BYTES))):
            left -= len(content)
            yield np.frombuffer(content, dtype=kind)
