"""Installed packages of other authors, written by a test."""

from pathlib import Path


def write_package(site: Path, name: str, source: str, entry_points: str) -> None:
    """A package with one module, as an installer leaves it in `site`: the module and its metadata.

    `entry_points` is the text of `entry_points.txt`.
    """
    site.mkdir(exist_ok=True)
    (site / f"{name.replace('-', '_')}.py").write_text(source, encoding="utf-8")
    metadata = site / f"{name.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(entry_points, encoding="utf-8")
