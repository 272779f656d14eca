"""Pictures are drawn in another process: whatever happens to it costs the pictures only."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.report_study import draw
from tuneoff.report import figures, page, pictures
from tuneoff.report.pictures import Pictures, draw_pictures

CHART = {"mark": "point", "data": {"values": [{"a": 1}]}, "encoding": {"x": {"field": "a", "type": "quantitative"}}}


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a module in the place of the library that draws, for the drawing process only."""

    def write(source: str) -> None:
        folder = tmp_path / "library"
        folder.mkdir()
        (folder / "vl_convert.py").write_text(source)
        monkeypatch.setattr(sys, "path", [str(folder), *sys.path])

    return write


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import os; os.abort()", "the drawing process was ended by SIGABRT"),
        ("raise ModuleNotFoundError('No module named vl_convert')", "failed (ModuleNotFoundError: No module named"),
        ("import sys; sys.exit(7)", "the drawing process failed (exit code 7)"),
        ("import time; time.sleep(60)", "drawing took more than 1 s"),
        ("def vegalite_to_svg(_): raise ValueError('no such mark')", "failed (ValueError: no such mark)"),
    ],
)
def test_a_process_that_ends_early_is_a_problem_and_no_exception(
    tmp_path: Path, library: Callable[[str], None], source: str, said: str
) -> None:
    library(source)
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / "loss.png").write_text("from an earlier run")
    drawn = draw_pictures({"loss": CHART}, folder, timeout_seconds=1 if "sleep" in source else 60)
    assert drawn.paths == ()
    assert said in (drawn.problem or "")
    assert names(folder) == []  # the older picture does not belong to this report


def test_what_was_drawn_before_the_end_stays(tmp_path: Path, library: Callable[[str], None]) -> None:
    library("vegalite_to_svg = lambda drawing: drawing['mark']\ndef svg_to_png(svg, scale): return svg.encode('ascii')")
    drawn = draw_pictures({"a": {"mark": "fine"}, "b": {"mark": "ü"}, "c": {"mark": "later"}}, tmp_path / "figures")
    assert [path.name for path in drawn.paths] == ["a.png", "a.svg"]
    assert "UnicodeEncodeError" in (drawn.problem or "")
    assert names(tmp_path / "figures") == ["a.png", "a.svg"]


def test_a_folder_that_cannot_be_made_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "figures").write_text("a file")
    drawn = draw_pictures({"loss": CHART}, tmp_path / "figures")
    assert drawn == Pictures((), f"{tmp_path / 'figures'}: File exists")


def test_nothing_to_draw_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "subprocess", None)
    assert draw_pictures({}, tmp_path / "figures") == Pictures((), None)
    assert not (tmp_path / "figures").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not enforce the limit")
def test_the_real_library_aborts_under_a_limit_of_addresses_and_only_the_pictures_are_missing(tmp_path: Path) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (4_000_000_000, 4_000_000_000))\n"
        "from pathlib import Path\n"
        "from tuneoff.report.pictures import draw_pictures\n"
        f"print(draw_pictures({{'loss': {CHART!r}}}, Path({str(tmp_path)!r})).problem)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "`ulimit -v`" in done.stdout


def test_without_pictures_the_page_has_its_charts_and_no_dead_link(
    fake_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = fake_study(methods=("zero_shot", "lora"), documents=2)
    whole = study / "figures" / "loss_curves.svg"
    monkeypatch.setattr(figures, "save_charts", lambda *_: Pictures((whole,), "it was raining"))
    written = draw(study)
    text = written.page.read_text(encoding="utf-8")
    assert written.pictures.problem == "it was raining"
    assert 'data-figure="timeline"' in text
    assert "window.vegaEmbed" in text
    assert 'href="figures/loss_curves.svg"' in text
    assert 'href="figures/loss_curves.png"' not in text
    assert 'href="figures/timeline' not in text


def test_without_the_package_the_page_says_so(fake_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    study = fake_study(methods=("zero_shot", "lora"), documents=2)
    page._vega_bundle.cache_clear()
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    written = draw(study)
    assert "pip install vl-convert-python" in (written.pictures.problem or "")
    text = written.page.read_text(encoding="utf-8")
    assert "Nothing could be drawn" in text
    assert 'class="chart"' not in text
