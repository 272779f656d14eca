from pathlib import Path

import pytest
import torch

from tuneoff.engine import precision

CPU = torch.device("cpu")


@pytest.fixture
def unknown_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bf16_by_processor", lambda: None)


@pytest.mark.parametrize(
    ("flags", "machine", "expected"),
    [
        ("fpu avx2 avx512f amx_bf16 amx_tile avx512_bf16", "x86_64", True),
        ("fpu avx2 avx512f avx512_bf16", "x86_64", None),  # clearly faster on some processors: measured
        ("fpu avx2 avx512f", "AMD64", False),
        ("fpu avx2", "aarch64", None),
        (None, "x86_64", None),
    ],
)
def test_features_of_the_processor(flags: str | None, machine: str, expected: bool | None, tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: amx_bf16\n")
    assert precision.bf16_by_processor(cpuinfo, machine) is expected
    cpuinfo.write_text("processor\t: 0\n")
    assert precision.bf16_by_processor(cpuinfo, machine) is None


@pytest.mark.parametrize("known", [True, False])
def test_a_known_processor_is_not_measured(known: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_rate", None)
    monkeypatch.setattr(precision, "bf16_by_processor", lambda: known)
    assert precision.has_fast_bf16(CPU) is known


@pytest.mark.parametrize(
    ("ratios", "expected", "measured"),
    [
        ([2.5, 2.4, 2.6], True, 3),
        ([0.01, 0.01, 0.01], False, 3),
        # Noise in one of three: the median of nine decides.
        ([0.9, 2.0, 2.1, 2.0, 2.1, 2.0, 0.8, 2.0, 2.0], True, 9),
        ([1.0, 3.0, 1.0, 1.1, 3.0, 1.0, 1.1, 1.0, 3.0], False, 9),
    ],
)
@pytest.mark.usefixtures("unknown_processor")
def test_noise_does_not_decide(
    ratios: list[float], expected: bool, measured: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = list(ratios)
    monkeypatch.setattr(precision, "_bf16_speedup", lambda _device: left.pop(0))
    assert precision.has_fast_bf16(CPU) is expected
    assert len(ratios) - len(left) == measured


@pytest.mark.usefixtures("unknown_processor")
@pytest.mark.parametrize(("bf16", "expected"), [(1.4e9, torch.float32), (1.6e9, torch.bfloat16)])
def test_bf16_only_where_it_is_clearly_faster(
    bf16: float, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {torch.bfloat16: bf16, torch.float32: 1e9}
    monkeypatch.setattr(precision, "_rate", lambda dtype, *_: rates[dtype])
    threads = torch.get_num_threads()
    assert precision.choose_dtype("auto", CPU) == expected
    assert torch.get_num_threads() == threads


def test_an_explicit_precision_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_rate", None)
    assert precision.choose_dtype("fp32", CPU) == torch.float32
    assert precision.choose_dtype("bf16", CPU) == torch.bfloat16


def test_measured_rates_are_plausible() -> None:
    assert precision.has_fast_bf16(CPU) in {True, False}
    assert 1e-4 < precision._bf16_speedup(CPU) < 100
    assert 1e7 < precision.gemm_rate(torch.float32, CPU, width=64) < 1e15


def test_accelerators_are_measured_with_larger_products(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def rate(_dtype, _device, width, *_):
        asked.append(width)
        return 1.0

    monkeypatch.setattr(precision, "_rate", rate)
    for device in ("cpu", "cuda"):
        precision.gemm_rate(torch.float32, torch.device(device))
    assert asked[1] >= 4096 > asked[0]
