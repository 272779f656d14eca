"""How many runs share the machine: a short probe of every layout, once for a study.

Operations of the size of one training seldom use all cores well, so several concurrent runs with fewer threads each may
finish more work per hour. The probe runs forward and backward passes through two layers of the starter model's shape in
each layout and takes the fastest; memory limits the number of runs. (Large matrix products alone would not show the
difference: they use all cores well.)
"""

import os
import subprocess
import sys
from pathlib import Path

from tuneoff.errors import RunFailure
from tuneoff.study.launcher import RUNTIME, WHOLE_MACHINE, Layout

# Fewer runs than this are not worth the probe's seconds.
WORTH_PROBING = 4
_SECONDS = 4.0
_FAILED = "the measurement for --workers auto has failed; use --workers 1"
# How much faster a layout must be to justify that times are measured on a shared machine.
_GAIN = 1.05

# The module path is that of this process: by default it begins with the current folder, which may be a stranger's.
_WORK = """
import time, torch
torch.set_num_threads(int(sys.argv[1]))
from transformers import LlamaConfig, LlamaModel
from tuneoff.engine.parallel import ParallelWorkers
from tuneoff.engine.kernels import use_fast_paths
from tuneoff.engine.precision import choose_dtype
device = torch.device("cpu")
dtype = choose_dtype("auto", device)
shape = {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3}
model = LlamaModel(LlamaConfig(**shape, num_hidden_layers=2, vocab_size=64)).to(dtype).requires_grad_(False)
use_fast_paths(model, device)
workers = ParallelWorkers(device, dtype)
pieces = [rows.requires_grad_() for rows in torch.randn(8, 256, 576, dtype=dtype).chunk(workers.multiple)]
def backward(rows):
    model(inputs_embeds=rows).last_hidden_state.float().square().mean().backward()
def step():
    workers.map(backward, pieces)
step()
print("ready", flush=True)
sys.stdin.readline()
end, count = time.perf_counter() + float(sys.argv[2]), 0
while time.perf_counter() < end:
    step()
    count += 1
print(count)
"""


def layouts(cores: int, most: int) -> list[Layout]:
    """The whole machine, and every even split into at most `most` processes."""
    shared = [Layout(count, cores // count) for count in range(2, min(cores, most) + 1) if cores % count == 0]
    return [WHOLE_MACHINE, *shared]


def choose(runs: int, bytes_of_a_run: float, free_bytes: float, cores: int) -> Layout:
    """The layout for `runs` runs that need about `bytes_of_a_run` each. Raises `RunFailure` if a probe fails."""
    fits = int(free_bytes * 0.8 // max(1.0, bytes_of_a_run))
    several = layouts(cores, min(fits, runs))
    if runs < WORTH_PROBING or len(several) == 1:
        return WHOLE_MACHINE
    rates = {layout: rate(layout, cores) for layout in several}
    best = max(several, key=lambda layout: rates[layout])
    return best if rates[best] > _GAIN * rates[WHOLE_MACHINE] else WHOLE_MACHINE


def rate(layout: Layout, cores: int, seconds: float = _SECONDS) -> float:
    """Steps per second of all processes of a layout together. They start at the same time, after their imports."""
    settings = [str(layout.threads or cores), str(seconds)]
    children = [
        subprocess.Popen(  # noqa: S603 - this very Python
            [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}\n{_WORK}", *settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**RUNTIME, **os.environ},
        )
        for _ in range(layout.processes)
    ]
    try:
        for child in children:
            assert child.stdout is not None
            if child.stdout.readline() != "ready\n":
                raise RunFailure(_FAILED)
        for child in children:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()
        outputs = [child.communicate()[0] for child in children]
        if any(child.returncode != 0 for child in children):
            raise RunFailure(_FAILED)
        counts = [int(text) for text in outputs]
    finally:
        for child in children:
            child.kill()
            child.wait()
    return sum(counts) / seconds


def memory_of_a_run(model: Path) -> float:
    """An upper bound in bytes for a run of a model folder or GGUF file.

    Full fine-tuning with weights and gradients in 16 bits, fp32 master weights and two moments needs 18 bytes per
    parameter (a file has 2 per parameter, a GGUF file about 0.6), plus activations.
    """
    files = [model] if model.is_file() else list(model.glob("*.safetensors"))
    each = 30.0 if model.is_file() else 9.0
    return each * sum(file.stat().st_size for file in files) + 3e9
