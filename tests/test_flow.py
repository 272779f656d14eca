"""A study flows from the command to the summary and rarely returns to a module that it has left."""

import sys
from pathlib import Path
from types import FrameType

import pytest

from tuneoff.cli import main
from tuneoff.spec import StudySpec

MODULE_RETURNS_ALLOWED = 14


def takes_study(frame: FrameType) -> bool:
    """Whether the function of this frame was called with a `StudySpec` as one of its arguments."""
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return any(isinstance(frame.f_locals.get(name), StudySpec) for name in names)


def count_returns(modules: list[str]) -> int:
    """How many of the modules, with repeats collapsed, were left before."""
    path = [name for name, before in zip(modules, [None, *modules], strict=False) if name != before]
    return len(path) - len(set(path))


def test_returns_are_counted_after_repeats_are_collapsed() -> None:
    assert count_returns(["a", "a", "b", "b", "a", "c", "a"]) == 2
    assert count_returns(["a", "b", "c"]) == count_returns([]) == 0


def test_a_study_flows_through_the_modules(
    tiny_model, tiny_data: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in the main process, for a study that is run and reported by the command `compare`.

    Each call of a function of tuneoff, outside `tuneoff.spec`, that takes a `StudySpec` as an argument adds the module
    of the function to a list. Calls in a row of one module count once. A return is an entry of the list whose module
    appears earlier in it.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    modules: list[str] = []

    def follow(frame: FrameType, event: str, argument: object) -> None:
        module = frame.f_globals.get("__name__", "")
        ours = module.startswith("tuneoff.") and not module.startswith("tuneoff.spec")
        if event == "call" and ours and takes_study(frame):
            modules.append(module)

    files = [f"--{split}-file={path}" for split, path in tiny_data.items()]
    effort = ["--max-length=128", "--max-new-tokens=4", "--precision=fp32", "--methods=zero_shot", "--quiet"]
    command = ["compare", f"--model={tiny_model('gpt_neo')}", *files, *effort, "--output=out"]
    before = sys.getprofile()
    sys.setprofile(follow)
    try:
        code = main(command)
    finally:
        sys.setprofile(before)
    assert code == 0
    assert {"tuneoff.cli.study", "tuneoff.study.runner", "tuneoff.study.planner"} <= set(modules)
    assert count_returns(modules) <= MODULE_RETURNS_ALLOWED, modules
