"""Layers in C are tested in each number format, with each way in which this processor can compute products."""

from collections.abc import Iterator

import pytest

from support.kernel_format import Format
from tuneoff.engine.kernels import packed_layers
from tuneoff.engine.kernels.packed_layers import UNITS


@pytest.fixture(params=[(dtype, name) for dtype, names in UNITS.items() for name in names], ids=lambda param: param[1])
def product_units(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Skips where this processor has no such units."""
    dtype, name = request.param
    number, best = 1 + UNITS[dtype].index(name), packed_layers.started(dtype)
    if not packed_layers.are_usable(dtype) or number > best:
        pytest.skip(f"this processor has no {name}, or other kernels are faster there")
    monkeypatch.setattr(Format, "dtype", dtype)
    packed_layers.use_units(dtype, number)
    yield
    packed_layers.use_units(dtype, best)
