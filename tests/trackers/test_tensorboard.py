"""What TensorBoard has logged, read back by its own package."""

import html
import re
from pathlib import Path

import pytest
from fake_tracked import LOSSES
from tracked_study import read_back

from tuneoff.trackers.tensorboard import _cell

TEXTS = [
    "plain", "a|b", "a\\|b", "*x* _y_ __z__", "<b>bold</b> <|end|>", "`a|b`", "[a](b)", "![i](http://example.org/j)",
    "&lt;", "\\*", "<!-- c -->", "# x", "\U0001f600 Über",
]  # fmt: skip


def test_a_run_is_read_back_by_tensorboard(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard", exc_type=ImportError)
    code = """if True:
        import json, sys
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        read = EventAccumulator(sys.argv[1] + "/tensorboard/lora-s0", size_guidance={"tensors": 0})
        read.Reload()
        curves = {tag: [(point.step, point.value) for point in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
        texts = {tag: read.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in read.Tags()["tensors"]}
        print(json.dumps([curves, texts, read.Tags()["images"]]))
    """
    curves, texts, images = read_back("tensorboard", code, "tensorboard --logdir", tmp_path, capfd)
    assert curves["train/loss"] == [[number, loss] for number, loss in enumerate(LOSSES, 1)]
    assert curves["validation/loss"] == [[3, 2.625]]
    assert curves["resources/memory_bytes"] == [[4, pytest.approx(123_456_789, abs=8)]]
    assert curves["scores/rouge1"] == [[0, 0.3125]]
    assert "scores/rouge2" not in curves
    assert '"name": "lora"' in texts["settings/text_summary"]
    assert "| first \U0001f600 text | True | 0.5 |" in texts["predictions/text_summary"]
    assert texts["status/text_summary"] == "finished"
    assert images == ["figures/loss"]


@pytest.mark.parametrize("text", TEXTS)
def test_no_sign_of_a_generated_text_acts_in_a_table(text: str) -> None:
    """`markdown_to_safe_html` of TensorBoard 2.21 ends a cell at a bar after a backslash, and lets images through."""
    assert not re.search(r"[\\|`*_<>\[!]", _cell(text))
    assert html.unescape(_cell(text)) == text


@pytest.mark.parametrize("text", TEXTS)
def test_tensorboard_shows_a_generated_text_as_it_is(text: str) -> None:
    shown = pytest.importorskip("tensorboard.plugin_util", exc_type=ImportError).markdown_to_safe_html(
        f"| id | text | last |\n| --- | --- | --- |\n| a | {_cell(text)} | z |"
    )
    assert [html.unescape(cell) for cell in re.findall("<td>(.*?)</td>", shown)] == ["a", text, "z"]
