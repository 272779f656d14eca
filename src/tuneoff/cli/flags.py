"""The flags that describe a study, as one table: type, help, and other names. `options` says what each one sets.

`--some-flag` and `--some_flag` are the same flag. The other names are those of transformers' example programs where
they mean the same; where the meaning differs, `foreign_flags` says what to type here.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from tuneoff.errors import UserError
from tuneoff.options import DATA_FILES, OPTION_PATHS, STANDARD_INPUT

DATA, MODEL, PROMPT, EFFORT, GENERATION = "Data", "Model", "Prompt", "Effort, the same for every method", "Generation"


@dataclass(frozen=True)
class Flag:
    """One flag."""

    name: str
    type: Any
    panel: str
    help: str
    also: tuple[str, ...] = ()
    metavar: str | None = None
    default: str | None = None  # for `--help`; written here because importing the study's models is slow

    @property
    def described(self) -> str:
        """The help text with the flag's other names, in the spelling of transformers."""
        names = ", ".join("--" + name.removeprefix("--").replace("-", "_") for name in self.also)
        return f"{self.help} Also {names}." if names else self.help

    @property
    def path(self) -> tuple[str, ...]:
        """Where its value belongs in `StudySpec`."""
        return OPTION_PATHS[self.parameter]

    @property
    def parameter(self) -> str:
        """The name of the function parameter that typer fills."""
        return self.name.removeprefix("--").replace("-", "_")


STUDY_FLAGS = (
    Flag("--data", str, DATA, "`starter`, a folder written by `datasets`, or a hub name.",
         ("--dataset-name",), "NAME"),
    Flag("--data-config", str, DATA, "Configuration of a hub data set.",
         ("--dataset-config-name",), "NAME"),
    Flag("--train-file", list[str], DATA,
         "Training examples: .jsonl, .csv, .parquet and others; - is standard input. Repeatable.", metavar="FILE"),
    Flag("--validation-file", list[str], DATA,
         "Validation examples; by default a tenth of the training documents. Repeatable.", metavar="FILE"),
    Flag("--test-file", list[str], DATA,
         "Test examples; by default a tenth of the training documents. Repeatable.", metavar="FILE"),
    Flag("--document-column", str, DATA, "Column of the documents.",
         ("--text-column",), "NAME"),
    Flag("--summary-column", str, DATA,
         "Column of the target texts; several separated by commas are alternative references.", metavar="NAME"),
    Flag("--summary-lists", str, DATA,
         "What a list of texts as target is: alternative references, or the sentences of one text.",
         metavar="references|sentences"),
    Flag("--repeated-documents", str, DATA,
         "What rows of one document are in validation and test: alternative references, or examples of their own.",
         metavar="references|examples"),
    Flag("--encoding", str, DATA, "Encoding of text files, such as cp1252; by default it is detected.",
         metavar="NAME"),
    Flag("--max-train-documents", int, DATA, "Train on at most N documents.",
         metavar="N"),
    Flag("--max-validation-documents", int, DATA,
         "Validate on at most N documents.", metavar="N"),
    Flag("--max-test-documents", int, DATA, "Test on at most N documents.",
         metavar="N"),
    Flag("--validation-share", str, DATA,
         "What is held out for validation without a file of its own: a fraction, or a number of documents.",
         ("--validation-size",), "X|N", default="0.1"),
    Flag("--test-share", str, DATA, "The same for the test documents.", ("--test-size",), "X|N", default="0.1"),
    Flag("--folds", int, DATA, "Cross-validation: each of K parts of the documents is tested once.", metavar="K"),
    Flag("--model", list[str], MODEL,
         "Hub id, local folder, GGUF file or `starter`. Repeatable.", ("--model-name-or-path",), "MODEL",
         default="starter"),
    Flag("--revision", str, MODEL, "Branch, tag or commit of a hub model.",
         ("--model-revision",), "REV"),
    Flag("--precision", str, MODEL, "Number format of the model.",
         metavar="auto|fp32|bf16", default="auto"),
    Flag("--trust-remote-code", bool, MODEL,
         "Run code that comes with the model. Only if you trust its authors."),
    Flag("--instruction", str, PROMPT, "What the model is asked to do; may contain {column} names.",
         metavar="TEXT", default="Summarize the following text in one sentence."),
    Flag("--cue", str, PROMPT,
         "Text between the document and the target; `Answer:` if the instruction asks for something else.",
         metavar="TEXT", default="Summary:"),
    Flag("--template", str, PROMPT, "How instruction, document and cue are combined.",
         metavar="auto|chat|plain", default="auto"),
    Flag("--max-length", int, PROMPT,
         "Maximum tokens of prompt, virtual tokens and target together; longer documents are truncated.", metavar="N",
         default="512"),
    Flag("--seeds", int, EFFORT, "Number of training seeds, paired across methods.", metavar="N", default="1"),
    Flag("--until-settled", bool, EFFORT,
         "Judge the study after 3 seeds and at up to three later looks, and train no further seeds of a method that is "
         "shown to lose more than the margin. --seeds is then the largest number, 6 by default."),
    Flag("--trials", int, EFFORT,
         "Settings tried for each method, plus one refinement trial; 0 uses the defaults.", metavar="N", default="0"),
    Flag("--fractions", str, EFFORT, "Fractions of the data to compare on, for example 0.1,0.25,1.",
         metavar="LIST", default="1"),
    Flag("--search-at", str, EFFORT, "Run trials on each fraction of the data, or on all the data only.",
         metavar="each|full", default="each"),
    Flag("--halving", bool, EFFORT,
         "Run the trials of a trained method one after another, and prune one that is not in the better half after a "
         "quarter or half of its steps."),
    Flag("--choose-by", str, EFFORT,
         "What chooses among the settings of a method: the validation loss, or, between the two with the lowest loss, "
         "the score of validation texts of a second training.", metavar="loss|text", default="loss"),
    Flag("--margin", float, EFFORT, "Differences of at most POINTS of the metric do not matter in practice.",
         metavar="POINTS", default="0.5"),
    Flag("--metric", str, EFFORT, "Score by which methods are judged: rouge1, rouge2, rougeL, rougeLsum ...",
         metavar="NAME", default="rouge1"),
    Flag("--epochs", float, EFFORT, "Passes over the training examples.", ("--num-train-epochs",),
         "N", default="1"),
    Flag("--max-steps", int, EFFORT, "At most N optimiser steps.", metavar="N"),
    Flag("--min-steps", int, EFFORT, "At least N optimiser steps.", metavar="N"),
    Flag("--batch-size", int, EFFORT, "Examples per optimiser step.",
         ("--per-device-train-batch-size",), "N", default="8"),
    Flag("--micro-batch-tokens", int, EFFORT,
         "Tokens computed at once (on a CPU by two parallel passes); lower it if memory runs out.",
         metavar="N", default="1024"),
    Flag("--warmup", float, EFFORT, "Fraction of the steps during which the learning rate rises.",
         ("--warmup-ratio", "--warmup-steps"), "FRACTION", default="0.06"),
    Flag("--schedule", str, EFFORT, "Learning rate schedule.", ("--lr-scheduler-type",),
         "cosine|linear|constant", default="cosine"),
    Flag("--max-grad-norm", float, EFFORT, "Clip gradients to this norm.",
         metavar="X", default="1"),
    Flag("--eval-steps", int, EFFORT,
         "Validate every N steps, in addition to the end of each epoch.", metavar="N"),
    Flag("--processes", int, EFFORT,
         "Processes that train one model together, each with a share of every batch.", metavar="N", default="1"),
    Flag("--patience", int, EFFORT, "Stop after N validations without a better loss.",
         ("--early-stopping-patience",), "N"),
    Flag("--max-new-tokens", int, GENERATION, "Maximum length of a generated text, in tokens.",
         ("--max-target-length",), "N", default="64"),
    Flag("--num-beams", int, GENERATION, "1 is greedy decoding.", metavar="N", default="1"),
    Flag("--rouge-words", str, GENERATION,
         "What ROUGE counts: English words (a-z, 0-9, stemmed), words of any script, or characters (as for Chinese).",
         metavar="english|unicode|characters", default="english"),
    Flag("--generate-batch-size", int, GENERATION, "Texts generated at once.",
         ("--per-device-eval-batch-size",), "N", default="32"),
)  # fmt: skip

ALIASES = {other.removeprefix("--"): flag.name.removeprefix("--") for flag in STUDY_FLAGS for other in flag.also}
# The other names that people type, which help does not list.
ALIASES |= {
    "beams": "num-beams",
    "data-path": "train-file",
    "dataset": "data",
    "dev-file": "validation-file",
    "eval-batch-size": "generate-batch-size",
    "eval-file": "validation-file",
    "lr": "learning-rate",
    "lr-scheduler": "schedule",
    "model-name": "model",
    "model-path": "model",
    "num-epochs": "epochs",
    "num-seeds": "seeds",
    "output-dir": "output",
    "train-batch-size": "batch-size",
    "train-data": "train-file",
    "val-file": "validation-file",
    "valid-file": "validation-file",
    "val-size": "validation-share",
}


def normalized(token: str) -> str:
    """The main spelling of a flag, without its dashes."""
    hyphenated = token.replace("_", "-")
    return ALIASES.get(hyphenated, hyphenated)


def was_typed(value: object) -> bool:
    """Whether this is the value of a flag that was typed: also 0 and, of `--no-...`, False."""
    return value is not None and value != []


def overrides_of(values: Mapping[str, Any]) -> list[tuple[tuple[str, ...], Any, str]]:
    """(path, value, flag) of every flag that was typed."""
    given: list[tuple[tuple[str, ...], Any, str]] = []
    values = _with_stored_input(values)
    for flag in STUDY_FLAGS:
        value: Any = values.get(flag.parameter)
        if not was_typed(value):
            continue
        if flag.path == ("models",):
            given.append((flag.path, [{"name": name} for name in value], flag.name))
        elif flag.parameter in DATA_FILES:
            given.append((flag.path, value[0] if len(value) == 1 else tuple(value), flag.name))
        elif flag.path == ("fractions",):
            given.append((flag.path, _fractions(str(value)), f"{flag.name} {value}"))
        elif flag.name in ("--validation-share", "--test-share"):
            given.append((flag.path, _size(flag.name, str(value)), f"{flag.name} {value}"))
        elif flag.path == ("train", "max_steps") and value == -1:  # transformers' programs write no limit so
            raise UserError("--max-steps -1: leave it out for no limit; --epochs then decides how long training takes")
        elif flag.path == ("train", "warmup"):
            given.append((flag.path, _warmup_fraction(value), flag.name))
        else:
            given.append((flag.path, value, flag.name))
    return given


def _with_stored_input(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values with a stored copy of standard input in place of a file named `-`."""
    flags = [flag for flag in STUDY_FLAGS if flag.parameter in DATA_FILES]
    reading = [flag for flag in flags for file in values.get(flag.parameter) or () if file == STANDARD_INPUT]
    if not reading:
        return values
    if len(reading) > 1:
        raise UserError(f"{reading[0].name} - and {reading[1].name} -: standard input can be read once; name a file")
    from tuneoff.cache import cache_folder
    from tuneoff.data.standard_input import store_standard_input

    (flag,) = reading
    if sys.stdin is None:
        raise UserError(f"{flag.name} -: standard input is closed; name a file")
    stored = str(store_standard_input(sys.stdin.buffer, flag.name, cache_folder() / "rows"))
    files = [stored if file == STANDARD_INPUT else file for file in values[flag.parameter]]
    return {**values, flag.parameter: files}


def _fractions(text: str) -> list[float]:
    """`0.1,0.5` as sorted numbers; 1 is added if it is missing."""
    try:
        return sorted({1.0, *(float(part) for part in text.split(",") if part.strip())})
    except ValueError as error:
        raise UserError(
            f"--fractions {text}: fractions of the data separated by commas, for example 0.1,0.5,1"
        ) from error


def _size(flag: str, text: str) -> int | float:
    """`0.2` and `20%` are fractions, `50` is a number of documents."""
    number, percent, rest = text.strip().partition("%")
    try:
        size = int(number) if number.isdecimal() and not percent else float(number) / (100 if percent else 1)
    except ValueError:
        size = 0
    if rest or size <= 0 or (isinstance(size, float) and not size < 1):
        raise UserError(f"{flag} {text}: a fraction such as 0.2 was expected, or a number of documents such as 50")
    return size


def _warmup_fraction(value: float) -> float:
    if not 0 <= value < 1:  # transformers' --warmup_steps takes either
        raise UserError(
            f"--warmup {value:g}: a fraction of all optimiser steps, from 0 to below 1, not a number of steps; for "
            "example --warmup 0.05 for 100 of 2000"
        )
    return value


def outside_predictions(texts: Sequence[str]) -> list[tuple[tuple[str, ...], Any, str]]:
    """`NAME=FILE` of --predictions as overrides."""
    given: list[tuple[tuple[str, ...], Any, str]] = []
    for text in texts:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise UserError(f"--predictions {text}: not of the form NAME=FILE, for example api=outputs.jsonl")
        given.append((("predictions", name), path, f"--predictions {text}"))
    return given


def takes_study_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command every flag of the table; the values that were typed are passed as `given`, name -> value."""
    own = [parameter for parameter in inspect.signature(function).parameters.values() if parameter.name != "given"]
    added = [
        inspect.Parameter(flag.parameter, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(flag))
        for flag in STUDY_FLAGS
    ]
    names = {parameter.name for parameter in own}

    @functools.wraps(function)
    def command(**values: Any) -> Any:
        mine = {name: value for name, value in values.items() if name in names}
        return function(**mine, given={name: value for name, value in values.items() if name not in names})

    keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    command.__signature__ = inspect.Signature([*keyword, *added])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *added)}
    return command


def takes_flags_of(parse: Callable[..., Any]) -> Callable[[Callable[[Any], Any]], Callable[..., Any]]:
    """Give a command the flags of `parse`; it gets what `parse` returns for those that were typed."""

    def decorate(function: Callable[[Any], Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def command(**values: Any) -> Any:
            return function(parse(**values))

        command.__signature__ = inspect.signature(parse)  # type: ignore[attr-defined]
        command.__annotations__ = parse.__annotations__
        return command

    return decorate


def _opposite(switch: str) -> str:
    """The flag that switches off what a study file switches on."""
    return f"--no-{switch.removeprefix('--')}"


OPPOSITES = frozenset(_opposite(flag.name) for flag in STUDY_FLAGS if flag.type is bool)


def _annotation(flag: Flag) -> Any:
    option = typer.Option(
        f"{flag.name}/{_opposite(flag.name)}" if flag.type is bool else flag.name,
        help=flag.described,
        rich_help_panel=flag.panel,
        metavar=flag.metavar,
        show_default=flag.default or False,
    )
    return Annotated[flag.type | None, option]
