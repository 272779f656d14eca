"""The kernels compute the same as transformers' chains of operations, with any number of threads."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tuneoff.engine.kernels import fused

CPU = torch.device("cpu")
DTYPES = [torch.float32, torch.bfloat16]
needs_kernels = pytest.mark.skipif(not fused.are_available(CPU), reason="no C compiler when tuneoff was installed")
# fp32: sums in another order. bf16 has 8 bits; the last one differs where a chain rounds twice and a kernel once.
CLOSE: dict[torch.dtype, dict[str, Any]] = {
    torch.float32: {"rtol": 1e-5, "atol": 1e-5},
    torch.bfloat16: {"rtol": 2e-2, "atol": 2e-2},
}


@pytest.mark.skipif(shutil.which("gcc") is None or sys.platform != "linux", reason="needs a compiler")
def test_kernels_are_compiled_where_there_is_a_compiler() -> None:
    assert fused.are_available(CPU)
    assert not fused.are_available(torch.device("meta"))


def made(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def through(function, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """The output, and the gradients of all inputs for a random gradient of the output."""
    leaves = [one.clone().requires_grad_() for one in inputs]
    y = function(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, made(*y.shape, dtype=y.dtype, seed=9))]


def assert_all_close(mine: list[torch.Tensor], usual: list[torch.Tensor]) -> None:
    for one, other in zip(mine, usual, strict=True):
        size = max(1.0, float(other.abs().max()))
        torch.testing.assert_close(one / size, other / size, **CLOSE[one.dtype])


@needs_kernels
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 5, 48), (1, 1, 7), (3, 130, 65)])
def test_norm(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    norm = LlamaRMSNorm(shape[-1], eps=1e-5).to(dtype)

    def usual(x: torch.Tensor, weight: torch.Tensor) -> Any:
        return torch.func.functional_call(norm, {"weight": weight}, (x,))

    inputs = made(*shape, dtype=dtype), made(shape[-1], dtype=dtype, seed=1)
    assert_all_close(through(lambda x, weight: fused.rms_norm(x, weight, 1e-5), *inputs), through(usual, *inputs))


@needs_kernels
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 3])
def test_rotation(dtype: torch.dtype, rows: int) -> None:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    angles = made(rows, 6, 4, seed=1).repeat(1, 1, 2)
    tables = angles.cos().to(dtype), angles.sin().to(dtype)
    x_BTHD = made(3, 6, 5, 8, dtype=dtype)  # the memory order of a projection's output
    mine = through(lambda x: fused.rotate(x.transpose(1, 2), *tables), x_BTHD)
    usual = through(lambda x: apply_rotary_pos_emb(x.transpose(1, 2), x.transpose(1, 2), *tables)[0], x_BTHD)
    assert_all_close(mine, usual)
    assert fused.rotate(x_BTHD.transpose(1, 2)[..., :6], *tables) is None  # not the width of the tables


@needs_kernels
@pytest.mark.parametrize("dtype", DTYPES)
def test_gate(dtype: torch.dtype) -> None:
    inputs = made(3, 50, dtype=dtype) * 4, made(3, 50, dtype=dtype, seed=1)
    assert_all_close(through(fused.silu_product, *inputs), through(lambda gate, up: F.silu(gate) * up, *inputs))
    far = torch.tensor([-float("inf"), -3e38, -1e4, -90.0, 0.0, 90.0, 1e4, float("nan")], dtype=dtype)
    mine, usual = fused.silu_product(far, torch.ones_like(far)), F.silu(far)
    torch.testing.assert_close(mine, usual, equal_nan=True)


@needs_kernels
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("queries", "keys"), [(7, 7), (3, 20), (1, 5), (40, fused.MAX_KEYS)])
def test_attention_weights(dtype: torch.dtype, queries: int, keys: int) -> None:
    scores = made(2, 3 * queries, keys, dtype=dtype) * 5
    mask = torch.full((queries, keys), float("-inf")).triu(1 + keys - queries).repeat(3, 1)
    usual_scores = scores.float().requires_grad_()
    usual = torch.softmax(0.3 * usual_scores + mask, -1)
    gradient = made(*scores.shape, dtype=dtype, seed=1)
    (back,) = torch.autograd.grad(usual, usual_scores, gradient.float())
    weights = fused.causal_softmax_(scores.clone(), 0.3, queries)
    torch.testing.assert_close(weights.float(), usual.detach(), **CLOSE[dtype])
    torch.testing.assert_close(
        fused.causal_softmax_backward_(gradient.clone(), weights, 0.3, queries).float(), back, **CLOSE[dtype]
    )
    assert (weights[:, :queries].float().triu(1 + keys - queries) == 0).all()


@needs_kernels
@pytest.mark.parametrize("dtype", DTYPES)
def test_products_are_rounded_as_in_torch(dtype: torch.dtype) -> None:
    """Bit by bit for all bf16 numbers, including infinities, subnormal numbers and NaN."""
    x = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16).to(dtype)
    factors = x.flip(0).roll(12345)
    torch.testing.assert_close(fused.multiply(x, factors), x * factors, rtol=0, atol=0, equal_nan=True)
    total = made(2**16, dtype=dtype)
    expected = (total.double() + x.double() * factors.double()).to(dtype)
    mine = fused.add_product_(total.clone(), x, factors)
    finite = expected.isfinite()
    assert finite.sum() > 2**15
    assert mine.isnan().equal(expected.isnan())
    torch.testing.assert_close(mine[finite], expected[finite], rtol=2**-7 if dtype == torch.bfloat16 else 1e-6, atol=0)


@needs_kernels
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_number_of_threads_changes_nothing(dtype: torch.dtype) -> None:
    x, weight = made(64, 700, dtype=dtype), made(700, dtype=dtype, seed=1)
    angles = made(1, 64, 350, dtype=dtype, seed=2).repeat(1, 1, 2)
    work = [
        lambda: through(lambda x, weight: fused.rms_norm(x, weight, 1e-6), x, weight),
        lambda: through(lambda x: fused.rotate(x.view(1, 1, 64, 700), angles.cos(), angles.sin()), x),
        lambda: through(fused.silu_product, x, x.flip(0)),
        lambda: [fused.causal_softmax_backward_(x.clone(), fused.causal_softmax_(x.clone(), 0.5, 64), 0.5, 64)],
        lambda: [fused.multiply(x, x), fused.add_product_(x.clone(), x, x)],
    ]
    before = torch.get_num_threads()
    outcomes = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            outcomes.append([tensor for one in work for tensor in one()])
    finally:
        torch.set_num_threads(before)
    for other in outcomes[1:]:
        for mine, theirs in zip(outcomes[0], other, strict=True):
            assert torch.equal(mine, theirs)


@needs_kernels
def test_sizes_that_do_not_fit_never_reach_a_kernel() -> None:
    """Behind the last element of each tensor is a page that nobody may touch: a kernel would end the process."""
    done = subprocess.run([sys.executable, "-c", BEYOND_THE_END], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["5"]), done.stderr[-2000:]


BEYOND_THE_END = """
import ctypes, mmap
import torch
from tuneoff.engine.kernels import fused

libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
kept = []

def made(*shape):
    count = torch.Size(shape).numel()
    room = -(-4 * count // mmap.PAGESIZE) * mmap.PAGESIZE
    start = libc.mmap(None, room + mmap.PAGESIZE, 3, 0x22, -1, 0)
    assert libc.mprotect(start + room, mmap.PAGESIZE, 0) == 0
    kept.append((ctypes.c_char * (4 * count)).from_address(start + room - 4 * count))
    return torch.frombuffer(kept[-1], dtype=torch.float32, count=count).view(*shape)

def is_refused(function, *arguments):
    try:
        function(*arguments)
    except (RuntimeError, ValueError):
        return True
    return False

def is_right(mine, usual):
    return torch.equal(mine, usual)

x, row = made(64, 4096).fill_(2), made(4096).fill_(3)
refused = [
    fused.rms_norm(x, made(8), 1e-6) is None,
    is_right(fused.multiply(x, row), x * row),
    is_refused(fused.causal_softmax_, made(1, 4096, 4), 1.0, 4096),
    is_refused(fused.causal_softmax_, made(1, 8, 65536), 1.0, 8),
    is_refused(fused.causal_softmax_backward_, made(1, 4, 8), made(2, 8, 16), 1.0, 4),
]
assert is_right(fused.silu_product(x, row[None]), torch.nn.functional.silu(x) * row)
assert is_right(fused.add_product_(x.clone(), x, row), torch.addcmul(x, x, row))
print(sum(refused))
"""


def test_a_library_of_another_version_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an update of the Python files only, functions with other arguments must not be called."""
    source = Path(fused.__file__).with_name("fused.c").read_text(encoding="utf-8")
    assert f"#define INTERFACE {fused.INTERFACE}\n" in source
    monkeypatch.setattr(fused, "INTERFACE", fused.INTERFACE + 1)
    assert fused._compiled_kernels.__wrapped__() == {}


def test_without_kernels_torch_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "_compiled_kernels", dict)
    x = made(4, 6)
    assert not fused.supports(x)
    assert torch.equal(fused.multiply(x, x), x * x)
    assert torch.equal(fused.add_product_(x.clone(), x, x), torch.addcmul(x, x, x))
    assert torch.equal(fused.silu_product(x, x), F.silu(x) * x)
