"""Layers in C compute the same as formulas in double precision, up to one rounding of the number format.

Most tests run in each format that this processor multiplies fast; elsewhere they are skipped.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from support.kernel_format import Format, rounding
from tuneoff.engine.kernels import packed_layers
from tuneoff.engine.kernels.packed_layers import Projection, attended, attended_back, attention, linear

needs_units = pytest.mark.usefixtures("product_units")
CPU = torch.device("cpu")
P = 0.25


def normal(*shape: int, scale: float = 1.0) -> torch.Tensor:
    return (scale * torch.randn(*shape)).to(Format.dtype)


def assert_rounded(found: torch.Tensor, exact: torch.Tensor) -> None:
    """Factors such as the narrow product are rounded too, so errors are compared with the largest number."""
    assert found.dtype == Format.dtype
    error = rounding(2**-7, 2**-18)
    torch.testing.assert_close(found.double(), exact, rtol=error, atol=float(exact.abs().max()) * error)


def format_name() -> str:
    """For a program that a test runs."""
    return str(Format.dtype).removeprefix("torch.")


def known(layer: nn.Linear) -> nn.Linear:
    """A layer that the kernels may compute."""
    packed_layers.use_packed_weights(layer, CPU)
    return layer


class Case:
    """A layer with a low-rank product, if `rank`, its input and what it should compute."""

    def __init__(self, tokens: int, features: int, outputs: int, rank: int, *, bias: bool, drops: bool) -> None:
        torch.manual_seed(0)
        self.layer = known(nn.Linear(features, outputs, bias=bias).to(Format.dtype).requires_grad_(False))
        self.x, self.gradient = normal(tokens, features), normal(tokens, outputs)
        self.before = normal(tokens, outputs)
        self.kept = torch.rand(tokens, features) >= P if drops else torch.ones(tokens, features, dtype=torch.bool)
        self.scale = 1.5 / (1 - P) if drops else 1.5
        bits = torch.from_numpy(np.packbits(self.kept.reshape(-1).numpy(), bitorder="little"))
        self.a = normal(rank, features, scale=features**-0.5).requires_grad_() if rank else None
        self.b = normal(outputs, rank).requires_grad_() if rank else None
        draw = (lambda _x: bits) if drops else None
        self.projection = Projection(self.layer, self.a, self.b, self.scale, draw if rank else None)

    def exact(self) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """y, and the gradients of x, A and B."""
        leaves = [one.detach().double().requires_grad_() for one in (self.x, self.a, self.b) if one is not None]
        y = nn.functional.linear(leaves[0], self.layer.weight.double(), None)
        if self.layer.bias is not None:
            y = y + self.layer.bias.double()
        if self.a is not None:
            y = y + self.scale * (leaves[0] * self.kept) @ leaves[1].T @ leaves[2].T
        y.backward(self.gradient.double())
        return y.detach(), [leaf.grad for leaf in leaves if leaf.grad is not None]


CASES = [
    (1, 32, 32, 0, False, False),
    (31, 64, 96, 8, True, False),
    (32, 96, 64, 16, False, True),
    (77, 64, 160, 40, True, True),
    (200, 160, 32, 33, False, True),
    (513, 96, 96, 1, False, True),
]


@needs_units
@pytest.mark.parametrize(("tokens", "features", "outputs", "rank", "bias", "drops"), CASES)
def test_a_linear_layer_and_its_gradients(
    tokens: int, features: int, outputs: int, rank: int, bias: bool, drops: bool
) -> None:
    case = Case(tokens, features, outputs, rank, bias=bias, drops=drops)
    exact, gradients = case.exact()
    x = case.x.clone().requires_grad_()
    y = linear(case.projection, x)
    assert y is not None
    assert_rounded(y, exact)
    y.backward(case.gradient)
    for one, other in zip([x, case.a, case.b][: len(gradients)], gradients, strict=True):
        assert one is not None
        assert one.grad is not None
        assert_rounded(one.grad, other)


@needs_units
@pytest.mark.parametrize("rank", [0, 8])
def test_what_is_already_there_is_added(rank: int) -> None:
    case = Case(50, 64, 96, rank, bias=True, drops=bool(rank))
    exact, gradients = case.exact()
    y, *drawn = case.projection.forward(case.x, case.before)
    assert_rounded(y, exact + case.before.double())
    grad_x = normal(50, 64)
    wanted = grad_x.double() + gradients[0]
    case.projection.backward(case.gradient, case.x, (drawn[0], drawn[1]), grad_x, add=True)
    assert_rounded(grad_x, wanted)


@needs_units
@pytest.mark.parametrize(("tokens", "features", "outputs"), [(1, 32, 32), (45, 64, 32), (300, 96, 160)])
def test_the_gradient_of_a_weight_that_trains(tokens: int, features: int, outputs: int) -> None:
    case = Case(tokens, features, outputs, 0, bias=False, drops=False)
    case.layer.requires_grad_(True)
    y = linear(case.projection, case.x)
    assert y is not None
    y.backward(case.gradient)
    assert case.layer.weight.grad is not None
    assert_rounded(case.layer.weight.grad, case.gradient.double().T @ case.x.double())


@needs_units
def test_a_weight_that_has_changed_is_packed_again() -> None:
    case = Case(40, 64, 64, 0, bias=False, drops=False)
    before = linear(case.projection, case.x)
    with torch.no_grad():
        case.layer.weight.mul_(2)
    after = linear(case.projection, case.x)
    assert before is not None
    assert after is not None
    assert torch.equal(after, 2 * before)


@needs_units
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    found: list[tuple[int, list[torch.Tensor]]] = []
    usual = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for tokens in (40, 333):
                case = Case(tokens, 96, 160, 8, bias=True, drops=True)
                x = case.x.clone().requires_grad_()
                y = linear(case.projection, x)
                assert y is not None
                assert case.a is not None
                assert case.b is not None
                y.backward(case.gradient)
                grads = [one.grad for one in (x, case.a, case.b) if one.grad is not None]
                found.append((tokens, [y.detach(), *grads]))
    finally:
        torch.set_num_threads(usual)
    for tokens in (40, 333):
        first, *others = [tensors for which, tensors in found if which == tokens]
        for tensors in others:
            assert all(torch.equal(one, other) for one, other in zip(first, tensors, strict=True))


def exact_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    queries, keys, group = q.shape[2], k.shape[2], q.shape[1] // k.shape[1]
    mask = torch.full((queries, keys), float("-inf"), dtype=torch.float64).triu(1 + keys - queries)
    scores = scale * q @ k.repeat_interleave(group, 1).transpose(2, 3) + mask
    return torch.softmax(scores, -1) @ v.repeat_interleave(group, 1)


@needs_units
@pytest.mark.parametrize(
    ("rows", "heads", "shared", "queries", "keys", "width"),
    [(1, 1, 1, 1, 1, 32), (2, 4, 2, 33, 33, 64), (3, 3, 1, 20, 75, 32), (1, 6, 2, 130, 130, 96), (2, 2, 2, 64, 96, 64)],
)
def test_attention_and_its_gradients(rows: int, heads: int, shared: int, queries: int, keys: int, width: int) -> None:
    torch.manual_seed(1)
    q = normal(rows, queries, heads, width).transpose(1, 2).requires_grad_()
    k, v = (normal(rows, shared, keys, width).requires_grad_() for _ in range(2))
    gradient, scale = normal(rows, queries, heads, width), width**-0.5
    leaves = [one.detach().double().requires_grad_() for one in (q, k, v)]
    exact = exact_attention(leaves[0], leaves[1], leaves[2], scale).transpose(1, 2)
    exact.backward(gradient.double())
    y = attention(q, k, v, scale)
    assert y is not None
    assert_rounded(y.detach(), exact.detach())
    y.backward(gradient)
    for one, leaf in zip((q, k, v), leaves, strict=True):
        assert one.grad is not None
        assert leaf.grad is not None
        error = rounding(0.02, 1e-5)
        # One key alone has no gradient, but it is a difference of numbers that are rounded.
        largest = max(float(leaf.grad.abs().max()), 0.1)
        torch.testing.assert_close(one.grad.double(), leaf.grad, rtol=error, atol=largest * error)


@needs_units
def test_large_scores_do_not_overflow() -> None:
    q = torch.full((1, 1, 3, 32), 100.0, dtype=Format.dtype)
    v = normal(1, 1, 3, 32)
    y, logs = attended(q, q, v, 10.0)
    assert_rounded(y, exact_attention(q.double(), q.double(), v.double(), 10.0))
    assert all(grad.isfinite().all() for grad in attended_back(v, q, q, v, y, logs, 10.0))


@needs_units
def test_scores_that_are_not_finite_stay_so() -> None:
    """Attention would hide that a training has diverged."""
    q, k, v = (normal(1, 1, 40, 32).requires_grad_() for _ in range(3))
    with torch.no_grad():
        q[0, 0, 20] = k[0, 0, 3] = 1e30
    y = packed_layers.attention(q, k, v, 0.2)
    assert y is not None
    assert bool(y[0, 20].isnan().all())
    assert not bool(y[0, :20].isnan().any())
    y.float().sum().backward()
    assert q.grad is not None
    assert bool(q.grad[0, 0, 20].isnan().any())
    starts = torch.zeros(1, dtype=torch.int64)
    assert bool(packed_layers.attended_new(q[:, :, 20].detach(), k.detach(), v.detach(), starts, 0.2).isnan().all())


@needs_units
def test_memory_of_attention_is_bounded_in_each_thread() -> None:
    q, k, v = (torch.zeros(1, heads, 1024, 128, dtype=Format.dtype) for heads in (48, 1, 1))
    assert packed_layers.attention(q, k, v, 0.1) is None
    assert packed_layers.attention(q[:, :4], k, v, 0.1) is not None


@needs_units
def test_memory_of_threads_that_have_ended_is_freed() -> None:
    """Each request for a text on a local page has a thread of its own."""
    program = """
import resource, sys, threading, torch
dtype_here = getattr(torch, sys.argv[1])
from tuneoff.engine.kernels import packed_layers
q = torch.zeros(1, 8, 1024, 64, dtype=dtype_here).requires_grad_()
k, v = (torch.zeros(1, 2, 1024, 64, dtype=dtype_here) for _ in range(2))
def work():
    packed_layers.attention(q, k, v, 0.1).float().sum().backward()
def peak():
    for _ in range(20):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
first = peak()
print((peak() - first) // 1024)
"""
    printed = subprocess.run(
        [sys.executable, "-c", program, format_name()], capture_output=True, text=True, check=True
    ).stdout
    assert int(printed) < 100, "MB; 17 MB a thread would be 340"


def test_what_the_kernels_do_not_support_is_left_to_others() -> None:
    x = normal(4, 64)
    assert linear(Projection(known(nn.Linear(64, 33).to(Format.dtype).requires_grad_(False))), x) is None
    assert linear(Projection(known(nn.Linear(64, 32).requires_grad_(False))), x) is None
    assert linear(Projection(known(nn.Linear(32, 32).to(Format.dtype).requires_grad_(False))), x) is None
    assert linear(Projection(known(nn.Linear(64, 32).to(Format.dtype))), x) is None  # a bias that trains
    layer = known(nn.Linear(64, 32).to(Format.dtype).requires_grad_(False))
    assert linear(Projection(layer), x.T.contiguous().T) is None
    long = normal(1, 1, packed_layers.MAX_KEYS + 1, 32)
    assert attention(long, long, long, 1.0) is None
    assert attention(normal(1, 3, 4, 32), normal(1, 2, 4, 32), normal(1, 2, 4, 32), 1.0) is None
    assert attention(normal(1, 1, 4, 16), normal(1, 1, 4, 16), normal(1, 1, 4, 16), 1.0) is None


def test_without_units_nothing_is_computed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_layers, "_compiled_kernels", dict)
    assert not packed_layers.are_usable(Format.dtype)
    assert linear(Projection(known(nn.Linear(64, 32).to(Format.dtype).requires_grad_(False))), normal(4, 64)) is None
    assert attention(normal(1, 1, 4, 32), normal(1, 1, 4, 32), normal(1, 1, 4, 32), 1.0) is None


@needs_units
@pytest.mark.parametrize(
    ("rows", "heads", "shared", "keys", "width"),
    [(1, 1, 1, 1, 32), (5, 9, 3, 47, 64), (2, 16, 1, 16, 32), (3, 10, 2, 33, 96)],
)
def test_attention_of_new_queries_after_padding(rows: int, heads: int, shared: int, keys: int, width: int) -> None:
    torch.manual_seed(2)
    q = normal(rows, heads, width)
    buffers = [normal(rows, shared, keys + 3, width) for _ in range(2)]  # with space for more positions
    k, v = (buffer[:, :, :keys] for buffer in buffers)
    starts = torch.randint(0, keys, (rows,))
    y = packed_layers.attended_new(q, k, v, starts, 0.2)
    for row in range(rows):
        start = int(starts[row])
        mine = slice(row, row + 1)
        exact = exact_attention(
            q[mine, :, None].double(), k[mine, :, start:].double(), v[mine, :, start:].double(), 0.2
        )
        assert_rounded(y[row], exact[0, :, 0])


@needs_units
def test_the_gate_and_its_gradients() -> None:
    torch.manual_seed(3)
    gate, up, gradient = normal(7, 96, scale=4), normal(7, 96), normal(7, 96)
    gate[0, :4] = torch.tensor([0.0, -100.0, 100.0, -87.0])
    leaves = [one.double().requires_grad_() for one in (gate, up)]
    exact = nn.functional.silu(leaves[0]) * leaves[1]
    exact.backward(gradient.double())
    found = (packed_layers.gated(gate, up), *packed_layers.gated_back(gradient, gate, up))
    for one, other in zip(found, (exact.detach(), leaves[0].grad, leaves[1].grad), strict=True):
        assert other is not None
        torch.testing.assert_close(one.double(), other, rtol=2**-6, atol=2**-9)


@needs_units
@pytest.mark.parametrize("rows", [1, 70])
def test_the_norm_and_its_gradient(rows: int) -> None:
    torch.manual_seed(4)
    x, weight, gradient, before = normal(rows, 96), normal(96), normal(rows, 96), normal(rows, 96)
    leaf = x.double().requires_grad_()
    exact = leaf * torch.rsqrt(leaf.square().mean(-1, keepdim=True) + 1e-5) * weight.double()
    exact.backward(gradient.double())
    y, scale = packed_layers.normed(x, weight, 1e-5)
    error = rounding(2**-6, 1e-6)  # bf16 is rounded twice, as in Llama
    torch.testing.assert_close(y.double(), exact.detach(), rtol=error, atol=1e-6)
    assert leaf.grad is not None
    assert_rounded(packed_layers.normed_back(before, gradient, x, weight, scale), before.double() + leaf.grad)


@needs_units
def test_weights_are_packed_where_there_is_memory_for_it() -> None:
    """Two copies in a sixth of the memory."""
    layer, x = nn.Linear(64, 32, bias=False).to(Format.dtype).requires_grad_(False), normal(4, 64)
    size = 2 * 64 * 32 * Format.dtype.itemsize
    assert packed_layers.use_packed_weights(layer, CPU, memory=6 * size - 1) == 0
    assert linear(Projection(layer), x) is None
    assert packed_layers.use_packed_weights(nn.Sequential(layer, nn.ReLU()), CPU, memory=6 * size) == 1
    assert linear(Projection(layer), x) is not None


@needs_units
def test_memory_that_runs_out_is_an_error() -> None:
    """The buffers of a kernel do not fit into the address space that is left; afterwards smaller work goes on."""
    done = subprocess.run([sys.executable, "-c", TOO_LARGE, format_name()], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["weight_gradient", "64"]), done.stderr[-2000:]


TOO_LARGE = """
import resource, sys
import torch
dtype_here = getattr(torch, sys.argv[1])
from tuneoff.engine.kernels import packed_layers as units

layer = torch.nn.Linear(576, 1536, bias=False, dtype=dtype_here)
units.use_packed_weights(layer, torch.device("cpu"))
projection = units.Projection(layer)
x, gradient = torch.zeros(60000, 576, dtype=dtype_here), torch.zeros(60000, 1536, dtype=dtype_here)
projection.forward(x[:64])
projection.backward(gradient[:64], x[:64], (None, None), None)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))  # the buffers take 2**28
try:
    projection.backward(gradient, x, (None, None), None)
except MemoryError as error:
    print(str(error).split()[-1])
print(len(projection.forward(x[:64])[0]))
"""


@needs_units
def test_sizes_that_do_not_fit_are_refused() -> None:
    case = Case(4, 32, 64, 8, bias=False, drops=True)
    x, q, starts = case.x, normal(2, 2, 5, 32), torch.zeros(2, dtype=torch.int64)
    y, logs = attended(q, q, q, 1.0)
    wrong = [
        lambda: case.projection.forward(normal(4, 64)),
        lambda: case.projection.forward(x, normal(4, 32)),
        lambda: case.projection.backward(normal(4, 32), x, (None, normal(4, 32)), None),
        lambda: Projection(case.layer, case.a, case.b, 1.0, lambda _x: torch.zeros(4, 3)).forward(x),
        lambda: packed_layers.normed(x, normal(64), 1e-5),
        lambda: packed_layers.normed_back(x, x, normal(8, 32), normal(32), torch.ones(8)),
        lambda: packed_layers.normed_back(x, x, x, normal(32), torch.ones(8)),
        lambda: packed_layers.gated(x, normal(4, 64)),
        lambda: packed_layers.gated(x.double(), x.double()),
        lambda: packed_layers.gated_back(normal(8, 32), x, x),
        lambda: attended(q, normal(2, 2, 4, 32), normal(2, 2, 4, 32), 1.0),
        lambda: attended(q, normal(2, 2, 6, 32), normal(2, 2, 5, 32), 1.0),
        lambda: attended_back(normal(2, 2, 4, 32), q, q, q, y, logs, 1.0),
        lambda: packed_layers.attended_new(q[:, :, 0].contiguous(), q, q, starts + 5, 1.0),
        lambda: packed_layers.attended_new(q[:, :, 0].contiguous(), q, q, starts.int(), 1.0),
        lambda: packed_layers.attended_new(normal(2, 34, 32), q, q, starts, 1.0),
    ]
    for index, call in enumerate(wrong):
        with pytest.raises(ValueError, match=r"fit the kernel|bits for"):
            pytest.fail(f"call {index} returned {call()}")


@needs_units
def test_no_byte_behind_a_tensor_is_touched() -> None:
    """Behind the last number of each tensor is a page that nobody may touch: a kernel would end the process."""
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_END, format_name()], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "all"), done.stderr[-2000:]


AT_THE_END = """
import ctypes, mmap, random, sys
import torch
dtype_here = getattr(torch, sys.argv[1])
from torch import nn
from tuneoff.engine.kernels import packed_layers as units

libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
kept = []

def made(*shape, dtype=dtype_here):
    count = torch.Size(shape).numel()
    size = count * dtype.itemsize
    room = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    start = libc.mmap(None, room + mmap.PAGESIZE, 3, 0x22, -1, 0)
    assert libc.mprotect(start + room, mmap.PAGESIZE, 0) == 0
    memory = (ctypes.c_char * size).from_address(start + room - size)
    kept.append((memory, start, room + mmap.PAGESIZE))
    tensor = torch.frombuffer(memory, dtype=dtype, count=count).view(*shape)
    return tensor.copy_(torch.randn(shape)) if dtype == dtype_here else tensor.fill_(85)

torch.empty_like = lambda one, **_given: made(*one.shape, dtype=one.dtype)
torch.Tensor.new_empty = lambda one, shape: made(*shape, dtype=one.dtype)
rng = random.Random(0)
for _ in range(60):
    tokens, features, outputs = rng.randint(1, 70), 32 * rng.randint(1, 4), 32 * rng.randint(1, 4)
    rank, drops = rng.choice([0, 1, 16, 31, 33]), rng.random() < 0.5
    layer = nn.Linear(features, outputs, bias=rng.random() < 0.5, dtype=dtype_here)
    layer.weight = nn.Parameter(made(outputs, features), requires_grad=not rank and rng.random() < 0.5)
    if layer.bias is not None:
        layer.bias = nn.Parameter(made(outputs), requires_grad=False)
    units.use_packed_weights(layer, torch.device("cpu"))
    a, b = (made(rank, features), made(outputs, rank)) if rank else (None, None)
    draw = (lambda x: made(x.numel() // 8, dtype=torch.uint8)) if drops else None
    projection = units.Projection(layer, a, b, 1.0, draw)
    x, grad_x = made(tokens, features), made(tokens, features)
    y, *drawn = projection.forward(x, made(tokens, outputs))
    projection.backward(made(tokens, outputs), x, drawn, grad_x, add=True)
    units.gated_back(made(tokens, features), x, grad_x)
    units.gated(x, grad_x)
    _, scale = units.normed(x, made(features), 1e-5)
    units.normed_back(grad_x, grad_x, x, made(features), scale)
    heads, rows, width, keys = rng.choice([(1, 1), (3, 1), (4, 2)]), rng.randint(1, 2), 32 * rng.randint(1, 3), tokens
    q, k, v = made(rows, heads[0], rng.randint(1, keys), width), *(made(rows, heads[1], keys, width) for _ in "kv")
    y, logs = units.attended(q, k, v, 1.0)
    units.attended_back(made(*y.shape), q, k, v, y, logs, 1.0)
    units.attended_new(made(rows, heads[0], width), k, v, torch.randint(0, keys, (rows,)), 1.0)
    del layer, projection, a, b, x, grad_x, y, drawn, q, k, v, logs, scale
    for _, start, size in kept:
        libc.munmap(start, size)
    kept.clear()
print("all")
"""
