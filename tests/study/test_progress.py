import io
import os
import pty
from dataclasses import replace
from pathlib import Path

import pytest

from support.fake_runs import job
from tuneoff.results.events import Event, Generated, Note, PhaseStarted, Sampled, StepDone, Validated
from tuneoff.results.run_claims import Team, Worker
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.run_record import Curve, Failure, Phase, Record
from tuneoff.study.progress import PLAIN_SECONDS, Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def step(number: int, seconds: float, loss: float = 2.5, tokens: int = 100) -> StepDone:
    return StepDone(
        step=number, steps=10, epoch=0.1, loss=loss, learning_rate=1e-3, grad_norm=1.0, tokens=tokens, seconds=seconds
    )


def ended(folder: Path, name: str = "lora-s0", failure: Failure | None = None) -> StoredRun:
    run = job(folder, name=name)
    record = Record(
        run_id=run.run_id, name=name, spec=run.spec, status="failed" if failure else "finished", started_at="2026",
        failure=failure, scores={"rouge1": 0.31259},
    )  # fmt: skip
    return StoredRun(run.dir, record)


def shown(events: list[Event], folder: Path, name: str = "lora-s0", seconds_each: float = 10.0) -> list[str]:
    stream, clock = io.StringIO(), Clock()
    run = job(folder, name=name)
    with Progress(4, done_before=1, stream=stream, clock=clock) as progress:
        progress.started(run)
        for event in events:
            clock.now += seconds_each
            progress.event(run, event)
    return stream.getvalue().splitlines()


def test_plain_lines_show_phase_loss_speed_and_time_left(tmp_path: Path) -> None:
    lines = shown(
        [
            PhaseStarted(phase="load", seconds=0.0),
            PhaseStarted(phase="train", seconds=10.0),
            step(1, 12.0),
            step(2, 14.0, loss=2.25),
            Validated(step=2, epoch=0.2, loss=2.125, best=True, seconds=15.0),
            PhaseStarted(phase="generate", seconds=20.0),
            Generated(done=30, total=150, seconds=50.0),
        ],
        tmp_path,
    )
    assert lines == [
        "[2/4] lora-s0: load",
        "[2/4] lora-s0: train",
        "[2/4] lora-s0: train, step 1 of 10, loss 2.5, 18 s left",
        "[2/4] lora-s0: train, step 2 of 10, loss 2.25, 50 tokens/s, 16 s left",
        "[2/4] lora-s0: validation loss 2.125 at step 2, epoch 0.2, the best so far",
        "[2/4] lora-s0: generate",
        "[2/4] lora-s0: generate, text 30 of 150, 2 min 0 s left",
    ]


def test_the_time_left_of_a_continued_run_counts_its_own_steps_only(tmp_path: Path) -> None:
    lines = shown(
        [
            PhaseStarted(phase="load", seconds=0.0),
            step(1, 12.0),
            step(6, 60.0),  # reported by the earlier attempt
            PhaseStarted(phase="train", seconds=61.0),
            step(7, 65.0),
        ],
        tmp_path,
    )
    assert lines[-1].endswith("train, step 7 of 10, loss 2.5, 4 tokens/s, 12 s left")


def test_a_plain_line_is_not_repeated_while_nothing_changes(tmp_path: Path) -> None:
    samples = [Sampled(seconds=float(at), phase="evaluate", memory_bytes=1, cpu=1.0) for at in range(5)]
    lines = shown([PhaseStarted(phase="train", seconds=0.0), step(10, 9.0), *samples], tmp_path)
    assert len(lines) == len(set(lines)) >= 2


def test_evaluation_and_generation_show_no_loss_of_training_and_repeat_no_step(tmp_path: Path) -> None:
    def sampled(phase: Phase) -> Sampled:
        return Sampled(seconds=1.0, phase=phase, memory_bytes=1, cpu=1.0)

    events: list[Event] = [PhaseStarted(phase="train", seconds=0.0), step(10, 9.0)]
    phases: tuple[Phase, ...] = ("load", "evaluate", "train", "generate")
    for phase in phases:
        events += [PhaseStarted(phase=phase, seconds=10.0), sampled(phase)]
    assert shown(events, tmp_path) == [
        "[2/4] lora-s0: train",
        "[2/4] lora-s0: train, step 10 of 10, loss 2.5",
        "[2/4] lora-s0: checkpoint",
        "[2/4] lora-s0: evaluate, step 10 of 10",
        "[2/4] lora-s0: generate",
    ]


def test_plain_lines_are_few(tmp_path: Path) -> None:
    events: list[Event] = [PhaseStarted(phase="train", seconds=0.0)]
    for number in range(1, 1001):
        events += [
            step(1, number / 10),
            PhaseStarted(phase="evaluate", seconds=0),
            PhaseStarted(phase="train", seconds=0),
        ]
    lines = shown(events, tmp_path, seconds_each=0.01)
    assert 4 <= len(lines) <= 30 / PLAIN_SECONDS + 2
    assert sum("evaluate" in line for line in lines) >= 1


def test_control_codes_of_strangers_never_reach_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\r\u202e\x9b31m"
    lines = shown([Note(text=f"note {evil}\nsecond")], tmp_path, name=f"run {evil}")
    stream = io.StringIO()
    with Progress(1, stream=stream) as progress:
        failed = ended(tmp_path, evil, Failure(type="X", message=f"why {evil}\nmore"))
        progress.ended(job(tmp_path, name=evil), failed)
    for text in ("".join(lines), stream.getvalue().rstrip("\n")):
        assert text.isprintable()
    assert len(lines) == 1
    assert "note" in lines[0]
    assert "why" in stream.getvalue()


def test_the_end_of_a_run_is_reported(tmp_path: Path) -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(2, stream=stream, clock=clock) as progress:
        progress.started(job(tmp_path))
        clock.now += 125
        progress.ended(job(tmp_path), ended(tmp_path))
        progress.started(job(tmp_path))
        progress.ended(job(tmp_path), ended(tmp_path, failure=Failure(type="E", message="no room\ntrace")))
    assert stream.getvalue().splitlines() == [
        "[1/2] lora-s0: finished after 2 min 5 s, ROUGE-1 0.3126",
        "[2/2] lora-s0: failed after 0 s, no room",
    ]


def test_quiet_is_quiet(tmp_path: Path) -> None:
    stream = io.StringIO()
    with Progress(1, stream=stream, quiet=True) as progress:
        progress.started(job(tmp_path))
        progress.event(job(tmp_path), Note(text="x"))
        progress.ended(job(tmp_path), ended(tmp_path))
    assert stream.getvalue() == ""


def test_a_reader_that_has_gone_away_stops_nothing(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    raw = os.fdopen(writer, "wb", buffering=0)
    stream = io.TextIOWrapper(raw, write_through=True)
    with Progress(1, stream=stream) as progress:
        progress.event(job(tmp_path), Note(text="x"))
    raw.close()


def on_terminal(folder: Path, name: str) -> str:
    """What a real terminal receives."""
    parent, child = pty.openpty()
    run = job(folder, name=name)
    with os.fdopen(child, "w") as stream, Progress(3, stream=stream) as progress:
        progress.started(run)
        for event in (PhaseStarted(phase="train", seconds=0.0), step(1, 2.0), step(2, 4.0), Note(text="a note")):
            progress.event(run, event)
        progress.ended(run, ended(folder, name))
    received = b""
    while True:
        try:
            data = os.read(parent, 65536)
        except OSError:  # Linux says so when the other end is closed
            break
        if not data:
            break
        received += data
    os.close(parent)
    return received.decode()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("terminal")
def test_a_terminal_gets_a_live_line(tmp_path: Path) -> None:
    text = on_terminal(tmp_path, "lora[bold]-s0")
    assert "lora[bold]-s0: train, step 2 of 10, loss 2.5, 50 tokens/s, 16 s left" in text
    assert "a note" in text
    assert "finished after 0 s, ROUGE-1 0.3126" in text
    assert "\x1b[32m" in text  # green
    assert "\x1b[?25h" in text[text.rindex("\x1b[?25l") :]  # the cursor is back


@pytest.mark.usefixtures("terminal")
def test_no_color_means_no_color(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = on_terminal(tmp_path, "lora-s0")
    assert "finished after" in text
    assert "\x1b[3" not in text


@pytest.mark.usefixtures("terminal")
def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    text = on_terminal(tmp_path, "lora-s0")
    assert "finished after" in text
    assert "\x1b" not in text


def test_a_pruned_trial_says_where(tmp_path: Path) -> None:
    stream, run = io.StringIO(), ended(tmp_path)
    pruned = run.record.model_copy(update={"curve": Curve(cut_at=10), "scores": {}})
    with Progress(1, stream=stream, clock=Clock()) as progress:
        progress.started(job(tmp_path))
        progress.ended(job(tmp_path), StoredRun(run.dir, pruned))
    assert stream.getvalue() == "[1/1] lora-s0: finished after 0 s, pruned at step 10\n"


def test_concurrent_runs_keep_their_numbers(tmp_path: Path) -> None:
    stream, clock = io.StringIO(), Clock()
    first, second = (replace(job(tmp_path, name=name), run_id=name) for name in ("a", "b"))
    with Progress(2, stream=stream, clock=clock) as progress:
        progress.started(first)
        progress.started(second)
        progress.event(second, Note(text="x"))
        progress.ended(first, ended(tmp_path, "a"))
    assert [line[:8] for line in stream.getvalue().splitlines()] == ["[2/2] b:", "[1/2] a:"]


def test_runs_are_not_numbered_if_their_total_is_unknown(tmp_path: Path) -> None:
    stream = io.StringIO()
    with Progress(stream=stream, clock=Clock()) as progress:
        progress.started(job(tmp_path))
        progress.ended(job(tmp_path), ended(tmp_path))
    assert stream.getvalue() == "lora-s0: finished after 0 s, ROUGE-1 0.3126\n"


def test_the_score_is_that_of_the_metric_of_the_study(tmp_path: Path) -> None:
    stream, run = io.StringIO(), ended(tmp_path)
    scored = StoredRun(run.dir, run.record.model_copy(update={"scores": {"rouge1": 0.5, "rougeL": 0.25}}))
    with Progress(stream=stream, metric="rougeL") as progress:
        progress.ended(job(tmp_path), scored)
    assert stream.getvalue() == "lora-s0: finished after 0 s, ROUGE-L 0.2500\n"


@pytest.mark.usefixtures("terminal")
def test_the_board_is_below_the_live_line_and_nowhere_else(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    asked: list[str] = []

    def board() -> list[str]:
        asked.append("once")
        return ["study: 1 of 2 runs done", "LoRA 42.1 (40.9 to 43.3)"]

    def shown_on(stream: io.StringIO) -> str:
        with Progress(2, stream=stream, board=board) as progress:
            progress.started(job(tmp_path))
            progress.event(job(tmp_path), PhaseStarted(phase="train", seconds=0.0))
            progress.event(job(tmp_path), step(1, 2.0))  # too soon to ask again
            progress.ended(job(tmp_path), ended(tmp_path))
        return stream.getvalue()

    text = shown_on(Terminal())
    assert "LoRA 42.1 (40.9 to 43.3)" in text
    assert len(asked) == 2
    assert "42.1" not in shown_on(io.StringIO())
    assert len(asked) == 2


@pytest.mark.usefixtures("terminal")
def test_the_board_of_several_workers_is_shown_again_while_no_run_reports_anything() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def shown_on(stream: io.StringIO) -> str:
        with Progress(2, stream=stream, clock=Clock(), board=lambda: [str(progress.workers)]) as progress:
            assert progress.workers is None
            for seconds in (10.0, 20.0):
                progress.team(Team((Worker("node7:1", "run", seconds),), 4))
        return stream.getvalue()

    text = shown_on(Terminal())
    assert "seconds=10.0" in text
    assert "seconds=20.0" in text
    assert shown_on(io.StringIO()) == "", "plain lines are for what happens"
