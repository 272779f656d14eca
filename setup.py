"""What pyproject.toml cannot say: the kernels are a plain shared library, and a build remembers its commit."""

import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent
COMMIT = Path("tuneoff", "commit.txt")


class BuildKernels(build_ext):
    """The kernels are loaded by ctypes, so their file is named after no version of Python."""

    def get_ext_filename(self, fullname: str) -> str:
        suffix = ".pyd" if super().get_ext_filename(fullname).endswith(".pyd") else ".so"
        return str(Path(*fullname.split("."))) + suffix

    def get_export_symbols(self, ext: object) -> list[str]:  # noqa: ARG002
        return []  # no PyInit function, which Windows would look for


class Wheel(bdist_wheel):
    """One wheel of a platform fits every version of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


def commit() -> str:
    """The commit of this checkout or unpacked sdist; empty if it is neither."""
    kept = HERE / "src" / COMMIT
    if kept.is_file():
        return kept.read_text()
    try:
        # An sdist that is built inside another repository must not take that one's commit.
        root, head = (git("rev-parse", word) for word in ("--show-toplevel", "HEAD"))
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head if Path(root) == HERE else ""


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603, S607 - fixed words


class BuildModules(build_py):
    """A wheel knows its commit. An editable install asks git instead, whose answer changes."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode and (known := commit()):
            Path(self.build_lib, COMMIT).write_text(known)


class SourceArchive(sdist):
    """So does an sdist."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        if known := commit():
            Path(base_dir, "src", COMMIT).write_text(known)


setup(
    cmdclass={
        "build_ext": BuildKernels,
        "build_py": BuildModules,
        "bdist_wheel": Wheel,
        "sdist": SourceArchive,
    }
)
