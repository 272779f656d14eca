"""Fake installed packages with entry points."""

from pathlib import Path


def write_distribution(folder: Path, name: str, group: str, entry_points: dict[str, str], code: str) -> None:
    """Make `folder`, once it is on `sys.path`, hold an installed package of one module with these entry points."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{key} = {value}" for key, value in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]) + "\n")
