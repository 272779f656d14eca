"""How much memory is free, and what is done when it runs out: the same work again, in smaller parts."""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from tuneoff.memory_limits import available_memory
from tuneoff.results.failures import is_out_of_memory

Result = TypeVar("Result")


def free_bytes(device: torch.device) -> int:
    """Free memory of `device` in bytes."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory()


def retry_smaller(
    attempt: Callable[[int], Result], parts: int, most: int, what: str, note: Callable[[str], None]
) -> tuple[Result, int]:
    """`attempt(parts)`, with twice as many parts each time that memory runs out; the result and the parts.

    Raises the error of the last attempt if `most` or more parts are too large as well. `note` is informed of the
    number that was enough. `what`: the work, for that message.
    """
    first = parts
    while True:
        try:
            result = attempt(parts)
        except Exception as error:
            if parts >= most or not is_out_of_memory(error):
                raise
        else:
            if parts > first:
                note(f"memory ran out during {what}; from there on it was computed in {parts} smaller parts")
            return result, parts
        # Here the error is gone, and with its traceback the tensors of the failed attempt.
        parts *= 2
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
