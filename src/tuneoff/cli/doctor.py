"""What tuneoff finds on this machine, and how to install what is missing."""

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from tuneoff import data, models, profiling, starter_packages
from tuneoff.cache import cache_folder

OPTIONAL = {
    "datasets": "data sets by hub name: pip install datasets",
    "wandb": "pip install wandb",
    "ray": "for --engine ray: pip install 'tuneoff[ray]'",
    "s3fs": "for --output s3://...: pip install 'tuneoff[store]'",
}


def examine() -> dict[str, Any]:
    """Versions, machine, precision, sensors, starter model and data. Loads torch to measure the precision."""
    import torch

    from tuneoff.engine.kernels import fused, packed_layers
    from tuneoff.engine.precision import choose_dtype, gemm_rate, pick_device

    device = pick_device()
    rates = {str(dtype).removeprefix("torch."): gemm_rate(dtype, device) for dtype in (torch.float32, torch.bfloat16)}
    return {
        "versions": models.versions() | {name: _version(name) for name in OPTIONAL},
        "machine": profiling.describe_machine().model_dump(mode="json"),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "precision": {
            "chosen": str(choose_dtype("auto", device)).removeprefix("torch."),
            "gemm_flops_per_second": rates,
        },
        "kernels": fused.are_available(device),
        "layers": {name: packed_layers.units(getattr(torch, name)) for name in rates} if device.type == "cpu" else {},
        "sensors": [sensor.model_dump(mode="json") for sensor in profiling.read_sensors()],
        "starter": {
            "model": {"present": models.starter_file() is not None, "install": starter_packages.INSTALL},
            "data": {"present": data.starter_present(), "install": starter_packages.INSTALL},
        },
        "cache_folder": str(cache_folder()),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


_KERNELS = {
    True: "tuneoff's C kernels",
    False: "PyTorch only: tuneoff's C kernels were not built (this needs a C compiler during installation)",
}


def as_text(found: Mapping[str, Any]) -> str:
    """The findings for people, one per line."""
    machine, precision = found["machine"], found["precision"]
    rates = ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in precision["gemm_flops_per_second"].items())
    memory = machine["memory_bytes"] / 2**30
    lines = [
        f"machine    {machine['cpu']}, {machine['usable_cores']} cores, {memory:.1f} GiB memory, {machine['os']}",
        f"device     {found['device']}, {found['threads']} threads",
        f"precision  {precision['chosen']} ({rates} in a small matrix product)",
    ]
    if found["device"] == "cpu":
        units = "".join(f", whole layers in {name} by {unit}" for name, unit in found["layers"].items() if unit)
        lines.append(f"kernels    {_KERNELS[found['kernels']]}{units}")
    for sensor in found["sensors"]:
        lines.append(f"sensor     {sensor['name']}: {_reading(sensor['reading'])}")
    for name, part in found["starter"].items():
        state = "present" if part["present"] else f"not installed (fetched from the hub, or: {part['install']})"
        lines.append(f"starter    {name}: {state}")
    for name, version in found["versions"].items():
        lines.append(f"version    {name} {version or f'not installed ({OPTIONAL[name]})'}")
    lines.append(f"cache      {found['cache_folder']}")
    return "\n".join(lines)


def _reading(reading: Mapping[str, Any]) -> str:
    if reading["value"] is None:
        return f"unavailable, {reading['reason']}"
    value, unit = reading["value"], reading["unit"]
    shown = f"{value / 2**20:.0f} MiB" if unit == "B" else f"{value:.4g} {unit}"
    return f"{shown} ({reading['source']})"
