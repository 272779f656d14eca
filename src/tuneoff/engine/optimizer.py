"""AdamW with fp32 master weights, and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor


def learning_rate_at(
    step: int, steps: int, peak: float, warmup: float, schedule: Literal["cosine", "linear", "constant"]
) -> float:
    """Learning rate of step 0 .. steps-1: linear warm-up over the fraction `warmup` of the steps, then the schedule.

    The schedules "cosine" and "linear" decay towards zero.
    """
    warmup_steps = math.ceil(warmup * steps)
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if schedule == "constant":
        return peak
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return peak * (1 - progress if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress)))


class MasterAdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) on fp32 master copies of lower-precision parameters.

    Gradients of micro-batches are accumulated in fp32. A parameter that is already fp32 is its own master.
    """

    def __init__(self, parameters: Iterable[Tensor], weight_decay: float) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._masters = [
            parameter if parameter.dtype == torch.float32 else parameter.detach().float().requires_grad_()
            for parameter in self.parameters
        ]
        # As in GPT-2 and nanoGPT, only matrices decay: norm weights and biases are scales, not features.
        groups = [
            {"params": [master for master in self._masters if master.ndim >= 2], "weight_decay": weight_decay},
            {"params": [master for master in self._masters if master.ndim < 2], "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW([group for group in groups if group["params"]], fused=True)

    def state(self) -> dict[str, Tensor]:
        """Master weights and moments by name, for `load`."""
        tensors = {
            f"master.{index}": master
            for index, (master, parameter) in enumerate(zip(self._masters, self.parameters, strict=True))
            if master is not parameter
        }
        for index, moments in self._adamw.state_dict()["state"].items():
            tensors |= {f"{name}.{index}": tensor for name, tensor in moments.items()}
        return tensors

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned. The caller restores the parameters."""
        moments: dict[int, dict[str, Tensor]] = {}
        with torch.no_grad():
            for key, tensor in state.items():
                name, _, index = key.rpartition(".")
                if name == "master":
                    self._masters[int(index)].copy_(tensor)
                else:
                    moments.setdefault(int(index), {})[name] = tensor
        self._adamw.load_state_dict(self._adamw.state_dict() | {"state": moments})

    def state_after_a_step(self) -> dict[str, Tensor]:
        """Tensors with the names, shapes and types of `state` once a step was done; the content has no meaning."""
        tensors = {name: tensor for name, tensor in self.state().items() if name.startswith("master.")}
        ordered = [parameter for group in self._adamw.param_groups for parameter in group["params"]]
        for index, master in enumerate(ordered):
            tensors[f"step.{index}"] = torch.empty((), dtype=torch.float32)
            tensors |= {f"{name}.{index}": master.detach() for name in ("exp_avg", "exp_avg_sq")}
        return tensors

    def release(self) -> None:
        """Free the moments and masters. Nothing but `parameters` may be used afterwards."""
        self._masters = []
        self._adamw.state.clear()
        self._adamw.param_groups.clear()

    def discard_gradients(self) -> None:
        """Clear the gradients of a batch that was not completed."""
        for tensor in (*self.parameters, *self._masters):
            tensor.grad = None

    def accumulate(self, index: int) -> None:
        """Add the gradient of parameter `index` to that of its master, and clear it. Call it after each backward."""
        parameter, master = self.parameters[index], self._masters[index]
        if master is parameter or parameter.grad is None:
            return
        if master.grad is None:
            master.grad = parameter.grad.float()
        else:
            master.grad += parameter.grad
        parameter.grad = None

    @property
    def accumulators(self) -> Sequence[Tensor]:
        """The tensors whose gradients are what `accumulate` has added up."""
        return self._masters

    def step(self, learning_rate: float, max_grad_norm: float) -> float:
        """Update all parameters and clear the gradients; returns the gradient norm before clipping.

        If that norm is not finite, no parameter changes.
        """
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
