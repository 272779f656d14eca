"""One name, one meaning: no public class or function at the top of a module has the name of another one."""

import ast
from collections import defaultdict
from pathlib import Path

import tuneoff

PACKAGE = Path(tuneoff.__file__).parent
# Each function there is a command, and has the name of the verb that it calls.
COMMANDS = "cli/app.py"


def definitions(source: str) -> set[str]:
    """Public functions and all classes at the top of a module."""
    body = ast.parse(source).body
    classes = {node.name for node in body if isinstance(node, ast.ClassDef)}
    functions = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return classes | {name for name in functions if not name.startswith("_")}


def defined_twice(modules: dict[str, str]) -> dict[str, list[str]]:
    """Names that several modules define, with the modules."""
    homes: dict[str, list[str]] = defaultdict(list)
    for module, source in modules.items():
        for name in definitions(source):
            homes[name].append(module)
    return {name: sorted(found) for name, found in homes.items() if len(found) > 1}


def test_the_check_finds_a_name_that_is_defined_twice() -> None:
    modules = {
        "a.py": "def place(): ...\nclass _P: ...",
        "b.py": "class place: ...\nclass _P: ...",
        "c.py": "place = 1",
    }
    assert defined_twice(modules) == {"place": ["a.py", "b.py"], "_P": ["a.py", "b.py"]}


def test_no_name_is_defined_twice() -> None:
    paths = sorted(PACKAGE.rglob("*.py"))
    modules = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    del modules[COMMANDS]
    assert defined_twice(modules) == {}
