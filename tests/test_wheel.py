"""A wheel holds all files of the package, fits every Python, and knows its commit."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


def git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a clone, so that no file which is not committed can get into it."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder / "clone")], check=True)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", f"--wheel-dir={folder}"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(folder / "clone")], check=True, timeout=240)
    [built] = folder.glob("*.whl")
    return built


def test_it_fits_every_python_of_a_platform(wheel: Path) -> None:
    _name, _version, python, abi, _platform = wheel.stem.split("-")
    assert (python, abi) == ("py3", "none")


def test_it_holds_every_file_of_the_package(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    committed = {Path(name).relative_to("src").as_posix() for name in git("ls-files", "src/tuneoff").split()}
    assert {name for name in committed - inside if not name.endswith(".c")} == set()
    extra = {name for name in inside - committed if not name.startswith("tuneoff-0.1.0.dist-info/")}
    assert {Path(name).stem for name in extra} == {"commit", "_fused", "_bf16", "_fp32"}


def test_it_runs_where_there_is_no_checkout(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}

    def output_of(*command: str) -> str:
        return subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout

    assert output_of("-m", "tuneoff", "--version") == f"tuneoff 0.1.0 ({git('rev-parse', 'HEAD')[:12]})\n"
    kernels = "import torch; from tuneoff.engine.kernels import fused; print(fused.__file__)"
    available = f"{kernels}; print(fused.are_available(torch.device('cpu')))"
    assert output_of("-c", available).split() == [str(tmp_path / "tuneoff/engine/kernels/fused.py"), "True"]
