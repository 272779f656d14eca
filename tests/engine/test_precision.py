import pytest
import torch

from tuneoff.engine import precision

CPU = torch.device("cpu")


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
