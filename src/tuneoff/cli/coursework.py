"""The four programs of the coursework that tuneoff grew out of: `tuneoff train` with the coursework's settings."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tuneoff import models, stopping
from tuneoff.api import Study
from tuneoff.cli import expand_home, guard, keep_streams, silence_libraries
from tuneoff.cli.app import dispatch
from tuneoff.cli.arguments import split
from tuneoff.cli.flags import STUDY_FLAGS, normalized
from tuneoff.cli.output import say, show
from tuneoff.errors import UserError
from tuneoff.methods import METHODS, defaults
from tuneoff.model_folder import read_json_object
from tuneoff.spec import ModelSpec

LEARNING_RATE, REPEATED = "--learning-rate", "--repeated-documents"
# Settings that only training uses; validation uses the micro-batch size too.
OF_TRAINING = {LEARNING_RATE} | {
    flag.name for flag in STUDY_FLAGS if flag.path[0] == "train" and flag.path[1] != "micro_batch_tokens"
}
ROUGE_NAMES = ("rouge1", "rouge2", "rougeL")
# Figures: SmolLM2-135M-Instruct on SciTLDR, 200 test documents, one epoch; zero-shot had a ROUGE-1 of 31.9.
KNOWN = {
    "zero_shot": "nothing is tuned here, and the coursework's plain template was not compared with others.",
    "soft_prompt": "the coursework's learning rate 5e-5 is poor: a soft prompt hardly moves at it; with 1e-2 we "
    "measured a ROUGE-1 of 40.8 where zero-shot had 31.9.",
    "lora": "the coursework's learning rate 5e-5, and q_proj and v_proj as the only modules, are poor; with 1e-3 and "
    "all linear layers we measured a ROUGE-1 of 42.9 where zero-shot had 31.9.",
    "full": "none of the coursework's settings is known to be poor; with twice its learning rate, 1e-4, and one epoch "
    "we measured a ROUGE-1 of 43.3 where zero-shot had 31.9.",
}
HELP = """{program}: `tuneoff train {method}` with the coursework's settings, which replace the defaults below:
--model_name EleutherAI/gpt-neo-125m --data abisee/cnn_dailymail --initial_prompt SUMMARIZE --batch_size 8 --epochs 10
--learning_rate 5e-5 --max_length 512
It takes all flags of that command, but no METHOD."""


def run_program(method: str, typed: Sequence[str] | None = None) -> int:
    """Run one of the programs and return the exit code.

    The last line on stdout holds the scores, in 0..1; with `--json` it is the summary, and they are on stderr.
    """
    if typed is None:
        silence_libraries()
        keep_streams()
    arguments = [expand_home(argument) for argument in (sys.argv[1:] if typed is None else typed)]
    asks = bool({"-h", "--help"} & set(arguments))

    def work() -> int:
        if asks:
            show(HELP.format(program=Path(sys.argv[0]).name, method=method))
        else:
            say(f"note: {KNOWN[method]}")
        own = for_method(method, with_starter(arguments))
        if method == "lora" and not asks:
            own += modules_of_architecture(own)
        tell = say if "--json" in arguments else show
        return dispatch(["train", method, "--preset", "coursework", *own], then=lambda study: finish(study, tell))

    code = guard(work)
    if typed is None:
        stopping.leave_to_the_system(code)
    return code


def for_method(method: str, typed: Sequence[str]) -> list[str]:
    """The command line of the four programs as arguments of `tuneoff train METHOD`.

    `--initial_prompt` is the instruction for methods without virtual tokens. Settings of training are accepted for a
    method that trains nothing, with a note on stderr.
    """
    spelt: list[str] = []
    idle: list[str] = []
    rest = iter(typed)
    for argument in rest:
        flag, equals, value = argument.partition("=")
        name = f"--{normalized(flag.removeprefix('--'))}" if flag.startswith("--") else ""
        if name == "--initial-prompt" and "initial_prompt" not in defaults(method):
            spelt.append(f"--instruction{equals}{value}")
            continue
        if name in OF_TRAINING and not METHODS[method].trains:
            idle.append(flag)
            if name == LEARNING_RATE:  # it belongs to the method; the others are checked with the study
                _check_number(flag, value if equals else next(rest, ""))
                continue
        spelt.append(argument)
    if len([one for one in spelt if one.partition("=")[0] == "--instruction"]) > 1:
        raise UserError("--initial_prompt is the instruction in this program; give it or --instruction, not both")
    if idle:
        say(f"note: nothing is trained here, so these have no effect: {', '.join(idle)}")
    return spelt


def modules_of_architecture(typed: Sequence[str]) -> list[str]:
    """The flag with PEFT's choice of modules for the architecture of the one model that was typed.

    None is needed if modules were typed, or if the coursework's are the choice.
    """
    pieces = split(typed, (), {"--model": True, "--set": True})
    named = [piece.value for piece in pieces if piece.name == "--model" and piece.value]
    chosen_by_hand = any(
        piece.name.endswith("target-modules") or (piece.name == "--set" and "target_modules" in (piece.value or ""))
        for piece in pieces
    )
    if len(named) != 1 or chosen_by_hand:
        return []
    folder = models.locate(ModelSpec(name=named[0]))
    if not (folder / "config.json").is_file():
        return []
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as CHOICES

    kind = read_json_object(folder / "config.json").get("model_type")
    chosen = CHOICES.get(kind)
    if not isinstance(chosen, list) or set(chosen) == set(CHOICES["gpt_neo"]):
        return []
    say(f"note: LoRA adapts {', '.join(chosen)}, PEFT's choice for {kind}")
    return ["--set", f"target_modules={','.join(chosen)}"]


def _check_number(flag: str, text: str) -> None:
    try:
        float(text)
    except ValueError as error:
        raise UserError(f"{flag} {text}: not a number") from error


def with_starter(typed: Sequence[str]) -> list[str]:
    """`--preset starter` here means the starter's model and data with the coursework's other settings."""
    replaced: list[str] = []
    for argument in typed:
        if argument == "--preset=starter" or (argument == "starter" and replaced[-1:] == ["--preset"]):
            del replaced[len(replaced) - (argument == "starter") :]
            replaced += ["--model", "starter", "--data", "starter"]
        else:
            replaced.append(argument)
    # it has three sentences on each abstract, which the instruction does not distinguish
    if replaced != [*typed] and not any(argument.partition("=")[0].replace("_", "-") == REPEATED for argument in typed):
        replaced += [REPEATED, "references"]
    return replaced


def finish(study: Study, tell: Callable[[str], None]) -> None:
    """Draw the graphs of every finished run; `tell` the scores of the first one."""
    from tuneoff.report import run_figures

    finished = [run for run in study.stored.runs if run.record.status == "finished"]
    for run in finished:
        drawn = run_figures(run)
        for path in drawn.paths:
            say(f"graph: {path}")
        if drawn.problem is not None:
            say(f"the graphs of {run.name} could not be drawn: {drawn.problem}")
    if finished:
        first = finished[0]
        say(f"weights: {first.dir.artefact}")
        tell(f"ROUGE Scores: { ({name: _share(first.record.scores.get(name)) for name in ROUGE_NAMES}) }")


def _share(points: float | None) -> float | None:
    return None if points is None else points / 100
