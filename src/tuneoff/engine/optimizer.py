"""AdamW over fp32 master weights, and the learning rate's way over a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor


def rate_at(
    step: int, steps: int, peak: float, warmup: float, schedule: Literal["cosine", "linear", "constant"]
) -> float:
    """Learning rate of step 0 .. steps-1: linear warm-up over `warmup` of the steps, then down towards zero."""
    warm = math.ceil(warmup * steps)
    if step < warm:
        return peak * (step + 1) / warm
    if schedule == "constant":
        return peak
    done = (step - warm) / max(1, steps - warm)
    return peak * (1 - done if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done)))


class MasterAdamW:
    """AdamW with bias correction on fp32 copies of parameters that compute in less than fp32.

    Gradients of micro-batches are added up in fp32. A parameter already in fp32 is its own master.
    """

    def __init__(self, parameters: Iterable[Tensor], weight_decay: float) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._masters = [
            parameter if parameter.dtype == torch.float32 else parameter.detach().float().requires_grad_()
            for parameter in self.parameters
        ]
        # Decay is for matrices: norms and biases are scales, not features (GPT-2 and nanoGPT do the same).
        groups = [
            {"params": [master for master in self._masters if master.ndim >= 2], "weight_decay": weight_decay},
            {"params": [master for master in self._masters if master.ndim < 2], "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW([group for group in groups if group["params"]], fused=True)

    def state(self) -> dict[str, Tensor]:
        """Masters and moments by name, for `load`."""
        found = {
            f"master.{place}": master
            for place, (master, parameter) in enumerate(zip(self._masters, self.parameters, strict=True))
            if master is not parameter
        }
        for place, moments in self._adamw.state_dict()["state"].items():
            found |= {f"{name}.{place}": tensor for name, tensor in moments.items()}
        return found

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state`; the parameters themselves are the caller's."""
        moments: dict[int, dict[str, Tensor]] = {}
        with torch.no_grad():
            for key, tensor in state.items():
                name, _, place = key.rpartition(".")
                if name == "master":
                    self._masters[int(place)].copy_(tensor)
                else:
                    moments.setdefault(int(place), {})[name] = tensor
        self._adamw.load_state_dict(self._adamw.state_dict() | {"state": moments})

    def take(self, place: int) -> None:
        """Move the gradient that a backward pass left at the parameter `place` to its master."""
        parameter, master = self.parameters[place], self._masters[place]
        if master is parameter or parameter.grad is None:
            return
        if master.grad is None:
            master.grad = parameter.grad.float()
        else:
            master.grad += parameter.grad
        parameter.grad = None

    def step(self, learning_rate: float, max_grad_norm: float) -> float:
        """One update; returns the gradient norm before clipping. A norm that is not finite changes nothing."""
        norm = float(torch.nn.utils.clip_grad_norm_(self._masters, max_grad_norm))
        if math.isfinite(norm):
            for group in self._adamw.param_groups:
                group["lr"] = learning_rate
            self._adamw.step()
            with torch.no_grad():
                for parameter, master in zip(self.parameters, self._masters, strict=True):
                    if master is not parameter:
                        parameter.copy_(master)
        self._adamw.zero_grad(set_to_none=True)
        return norm
