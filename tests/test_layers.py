"""The house's rule: a file imports only from its own layer and lower ones, and the light rooms stay free of torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tuneoff

PACKAGE = Path(tuneoff.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

LAYERS = {
    "adapter_settings": 2,
    "auto_tokenizer": 2,
    "beside": 0,
    "cache": 0,
    "commit": 0,
    "confined": 0,
    "errors": 0,
    "extras": 0,
    "local_page": 0,
    "memory_limits": 0,
    "metrics": 0,
    "options": 0,
    "plugins": 0,
    "regular_files": 0,
    "row_cache": 0,
    "saved_tensors": 0,
    "spec": 0,
    "starter_packages": 0,
    "stats": 0,
    "stopping": 0,
    "temporary_folder": 0,
    "text": 0,
    "data": 1,
    "results": 1,
    "engine": 2,
    "finite_weights": 2,
    "model_files": 2,
    "model_folder": 2,
    "model_headers": 2,
    "model_weights": 2,
    "models": 2,
    "profiling": 2,
    "prompts": 2,
    "scores": 2,
    "tokenization": 2,
    "export": 3,
    "methods": 3,
    "run": 4,
    "long_documents": 5,
    "study": 5,
    "verdict": 5,
    "report": 6,
    "trackers": 6,
    "checked_export": 7,
    "hub_push": 7,
    "side_by_side": 7,
    "scored_systems": 7,
    "api": 8,
    "cli": 9,
    "__main__": 9,
}
LIGHT = ("data", "metrics", "report", "results", "scores", "spec", "stats", "verdict")
HEAVY = {"accelerate", "peft", "torch", "transformers"}


def room_of(module: str) -> str | None:
    """The room of `tuneoff.room.file`; None for other packages and for `tuneoff` itself."""
    parts = module.split(".")
    return parts[1] if parts[0] == "tuneoff" and len(parts) > 1 else None


def imported_rooms(source: str) -> set[str]:
    """Rooms that a file imports anywhere, functions and `TYPE_CHECKING` blocks included."""
    rooms = set()
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the room they come from"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        rooms |= {room for name in names if (room := room_of(name)) is not None}
    return rooms - {"__version__"}


def upward(own: str, source: str) -> set[str]:
    return {room for room in imported_rooms(source) if LAYERS[room] > LAYERS[own]}


def test_the_rule_sees_an_upward_import() -> None:
    assert upward("metrics", "def late():\n    from tuneoff import report\n") == {"report"}
    assert upward("metrics", "import tuneoff.study.planner\n") == {"study"}
    assert upward("study", "from tuneoff.spec import RunSpec\nimport json\n") == set()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_file_imports_upward(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":  # it names everything that Python users need, and imports it when it is used
        assert modules_after("import tuneoff") == {"tuneoff"}
        return
    assert own in LAYERS, f"give {own} a layer in {Path(__file__).name} and in the design"
    assert upward(own, path.read_text(encoding="utf-8")) == set()


def test_statistics_know_nothing_of_tuneoff() -> None:
    for path in sorted((PACKAGE / "stats").glob("*.py")):
        assert imported_rooms(path.read_text(encoding="utf-8")) <= {"stats"}


def modules_after(statement: str) -> set[str]:
    """Modules of tuneoff that a fresh interpreter holds after `statement`."""
    return {name for name in _modules(statement) if name.partition(".")[0] == "tuneoff"}


def loaded_by(statement: str) -> set[str]:
    """Top-level names of the modules that a fresh interpreter holds after `statement`."""
    return {name.partition(".")[0] for name in _modules(statement)}


def _modules(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_the_light_rooms_load_no_torch() -> None:
    assert loaded_by("; ".join(f"import tuneoff.{room}" for room in LIGHT)) & HEAVY == set()


def test_names_of_methods_are_checked_without_torch() -> None:
    loaded = loaded_by("import tuneoff.methods, tuneoff.study.planner, tuneoff.spec.toml, tuneoff.study.runner")
    assert loaded & HEAVY == set()


def test_help_loads_nothing_that_is_slow() -> None:
    loaded = loaded_by("from tuneoff.cli import main; main(['compare', '--help'])")
    assert loaded & (HEAVY | {"altair", "numpy", "pandas", "pyarrow", "scipy"}) == set()
