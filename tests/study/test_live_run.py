"""How far a run is, by its events. The words themselves are tested with the progress that shows them."""

from tuneoff.results.events import Generated, PhaseStarted, Sampled, StepDone
from tuneoff.study.live_run import LiveRun


def test_phases_steps_texts_and_memory() -> None:
    state = LiveRun()
    assert (state.words(), state.done, state.memory_bytes) == (["starting"], None, None)
    state.take(PhaseStarted(phase="train", seconds=1.0))
    for number in (1, 2):
        state.take(
            StepDone(
                step=number,
                steps=4,
                epoch=0.5,
                loss=2.0,
                learning_rate=1e-3,
                grad_norm=1.0,
                tokens=50,
                seconds=1.0 + number,
                covers=2,
            )
        )
    assert state.words() == ["train", "step 2 of 4", "loss 2", "100 tokens/s", "2 s left"]
    state.take(Sampled(seconds=3.0, phase="train", memory_bytes=7, cpu=1.0))
    assert state.memory_bytes == 7
    state.take(PhaseStarted(phase="evaluate", seconds=3.5))
    assert state.words() == ["evaluate", "step 2 of 4", "2 s left"]  # of training, and not at its speed
    state.take(PhaseStarted(phase="load", seconds=3.8))
    assert state.words()[0] == "checkpoint"
    assert not any(word.startswith(("step", "loss")) for word in state.words())
    state.take(PhaseStarted(phase="generate", seconds=4.0))
    assert state.done is None
    assert state.words() == ["generate"]
    state.take(Generated(done=1, total=3, seconds=6.0))
    assert state.words() == ["generate", "text 1 of 3", "4 s left"]
