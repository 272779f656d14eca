"""The commands. Each parses its flags, calls one function and prints; slow modules are imported inside functions."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import tuneoff
from tuneoff.cli import DONE, FAILED, INTERRUPTED, USAGE, complain
from tuneoff.cli.command_line import HELP, settle, typed_method
from tuneoff.cli.flags import (
    EFFORT,
    OPPOSITES,
    normalized,
    outside_predictions,
    overrides_of,
    takes_flags_of,
    takes_study_flags,
)
from tuneoff.cli.output import say, show, show_json
from tuneoff.cli.usage_errors import usage_sentence
from tuneoff.errors import UserError
from tuneoff.extras import require_tune
from tuneoff.options import STANDARD_INPUT
from tuneoff.text import join_words

if TYPE_CHECKING:
    from tuneoff.api import Study
    from tuneoff.cli.study import StudyFlags
    from tuneoff.spec import StudySpec

OUTPUT = "What comes out"
# The base class of all usage errors; typer exports only this subclass.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    pretty_exceptions_enable=False,
    help="Which way of adapting a language model is worth it for my documents, on my machine?",
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": normalized,
    },
)

StudyFile = Annotated[Path | None, typer.Argument(metavar="[STUDY.toml]", help="A study as TOML.", show_default=False)]
Preset = Annotated[
    str | None,
    typer.Option("--preset", metavar="NAME", help="A study that comes with tuneoff: `starter`.", show_default=False),
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--methods",
        metavar="A,B",
        help="Methods to compare, separated by commas; see `tuneoff methods`. Settings of one method are rows of their "
        "own: lora,lora@r=64. Repeatable.",
        show_default="zero_shot,soft_prompt,lora,full",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="METHOD.NAME=VALUE", help="A hyper-parameter of one method. Repeatable."),
]
Outside = Annotated[
    list[str] | None,
    typer.Option(
        "--predictions",
        metavar="NAME=FILE",
        help="Outputs of an outside system (JSONL: id, text) as a row of the table. Repeatable.",
        rich_help_panel=OUTPUT,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        metavar="DIR",
        help="Folder of the study; runs that are there are not repeated. Default: runs/NAME. Also --output_dir. Or a "
        "URL of an object store (s3://bucket/study), to which all of it is copied.",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
KeepEarlier = Annotated[
    bool,
    typer.Option(
        "--keep-earlier",
        help="Continue a study that an earlier version of tuneoff began: its finished runs count. The report says "
        "which version made which run.",
        rich_help_panel=OUTPUT,
    ),
]
Fresh = Annotated[
    bool,
    typer.Option(
        "--fresh",
        help="Start a new study in a folder next to the one that is there: DIR-2, DIR-3 ... Nothing is deleted.",
        rich_help_panel=OUTPUT,
    ),
]
ReportTo = Annotated[
    list[str] | None,
    typer.Option(
        "--report-to",
        metavar="TRACKER",
        help="`wandb`, `mlflow`, `tensorboard`, `trackio` or `none`. Repeatable.",
        rich_help_panel=OUTPUT,
    ),
]
NoTexts = Annotated[
    bool,
    typer.Option("--no-texts", help="Keep documents and generated texts out of the folder.", rich_help_panel=OUTPUT),
]
Workers = Annotated[
    str,
    typer.Option(
        "--workers",
        metavar="N|auto",
        help="Concurrent runs, which divide the processors among them; `auto` measures which number is fastest. Costs "
        "are then measured in separate timing runs.",
        rich_help_panel=OUTPUT,
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="NAME",
        help="What carries out the runs: `local`, `shared` (other machines that see the folder take part with "
        "`tuneoff work`), `slurm` (an array of workers; `slurm:workers=8,time=4h,memory=16G,cpus=8,partition=P,"
        "account=A` sets more), `ray` (tasks of a Ray cluster; `ray:cpus=2,memory=8G,gpus=0.5` sets the size of a "
        "task), or an executor of another package.",
        rich_help_panel=OUTPUT,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="auto|HOST:PORT",
        help="For `--engine ray`: the cluster; `auto` is the one that this machine is part of. Without it, this "
        "machine is a cluster of its own.",
        show_default=False,
        rich_help_panel=OUTPUT,
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="TIME",
        help="Fit the study into 20m, 1h30m ...: a short probe measures each method, then documents, seeds, steps "
        "and trials are chosen together (rule: docs/fairness.md).",
        show_default=False,
        rich_help_panel=EFFORT,
    ),
]
Equal = Annotated[
    str,
    typer.Option(
        "--equal",
        metavar="examples|time",
        help="What the trained methods get an equal amount of; equal time is measured by a probe.",
        rich_help_panel=EFFORT,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show neither progress nor table.", rich_help_panel=OUTPUT)]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print the plan and write nothing (with --budget, the probe is still run).",
        rich_help_panel=OUTPUT,
    ),
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Run code that comes with the model. Only if you trust its authors."),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the summary as JSON, as the last line of stdout.", rich_help_panel=OUTPUT)
]


@dataclasses.dataclass(frozen=True)
class _Comparison:
    """What the flags of `compare` ask for."""

    spec: "StudySpec"
    folder: Path
    flags: "StudyFlags"
    dry_run: bool
    as_json: bool


@takes_study_flags
def _comparison(
    study: StudyFile = None,
    preset: Preset = None,
    methods: Methods = None,
    set_: Settings = None,
    predictions: Outside = None,
    output: Output = None,
    fresh: Fresh = False,
    keep_earlier: KeepEarlier = False,
    report_to: ReportTo = None,
    no_texts: NoTexts = False,
    workers: Workers = "1",
    engine: Engine = "local",
    address: Address = None,
    budget: Budget = None,
    equal: Equal = "examples",
    quiet: Quiet = False,
    page: Annotated[
        bool,
        typer.Option(
            "--page", help="Serve a page of this machine that fills as results come in.", rich_help_panel=OUTPUT
        ),
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    *,
    given: Mapping[str, Any],
) -> _Comparison:
    """The flags that `compare` and `check` share."""
    from tuneoff.cli.study import StudyFlags
    from tuneoff.results.store import url_of
    from tuneoff.results.study_dir import free_folder
    from tuneoff.spec.toml import Override
    from tuneoff.study.executor import with_address
    from tuneoff.study.study_file import parse_setting, read_study

    overrides = [Override(*entry) for entry in [*overrides_of(given), *outside_predictions(predictions or ())]]
    if methods:
        overrides.append(Override(("methods",), _method_names(methods), "--methods"))
    overrides += [parse_setting(text) for text in set_ or ()]
    spec = read_study(study, preset, overrides)
    flags = StudyFlags(
        budget=budget,
        equal=equal,
        workers=workers,
        engine=with_address(engine, address),
        report_to=report_to or (),
        keep_texts=not no_texts,
        keep_earlier=keep_earlier,
        quiet=quiet,
        page=page,
    )
    folder = output or Path("runs") / spec.name
    if fresh and url_of(folder) is not None:
        raise UserError(f"--fresh: chooses among folders, and --output {url_of(folder)} is none; name another URL")
    if not fresh:
        return _Comparison(spec, folder, flags, dry_run, as_json)
    folder = free_folder(folder)
    if not quiet:
        say(f"--fresh: a new study, in {folder}; to continue it, write --output {folder} instead of --fresh")
    return _Comparison(spec, folder, flags, dry_run, as_json)


def _prepare_to_compute(command: str) -> None:
    """For a command that computes in this process: is all it needs installed? Its threads wait as those of runs."""
    require_tune(command)
    from tuneoff.engine.thread_waiting import wait_as_runs_do

    wait_as_runs_do()


@app.command()
@takes_flags_of(_comparison)
def compare(asked: _Comparison) -> "int | Study":
    """Compare ways of adapting a model, under equal effort.

    There is no learning rate for all methods at once: write --set lora.learning_rate=1e-3.
    """
    return _carry_out(asked.spec, asked.folder, asked.flags, dry_run=asked.dry_run, as_json=asked.as_json)


@app.command()
@takes_flags_of(_comparison)
def check(asked: _Comparison) -> int:
    """List what a study needs, and what of it fails. Takes the flags of `compare`; writes nothing."""
    from tuneoff.cli.checks import items_as_text
    from tuneoff.results.store import placed
    from tuneoff.study.checklist import look_at
    from tuneoff.study.executor import open_executor
    from tuneoff.study.launcher import Layout

    require_tune("tuneoff check")
    flags = asked.flags
    limits = flags.limits()
    open_executor(flags.engine, Layout(limits.workers or 1))
    probe = flags.budget is not None or flags.equal == "time"
    with placed(asked.folder, say) as folder:
        items = list(look_at(asked.spec, folder, limits, keep_earlier=flags.keep_earlier, probe=probe))
    if asked.as_json:
        show_json(json.dumps({"items": [dataclasses.asdict(item) for item in items]}))
    elif not flags.quiet:
        show(items_as_text(items, sys.stdout.encoding))
    return USAGE if any(item.passed is False for item in items) else DONE


@app.command()
@takes_study_flags
def init(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE|FOLDER]...",
            help="Data files; of several, the names say which is `test` or `dev`. Or a folder or archive of splits, or "
            "`starter`.",
        ),
    ] = None,
    methods: Methods = None,
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="The study file to write.")] = Path(
        "study.toml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    no_probe: Annotated[
        bool,
        typer.Option("--no-probe", help="Measure no speed: the estimate then needs one that was measured before."),
    ] = False,
    as_json: AsJson = False,
    *,
    given: Mapping[str, Any],
) -> int:
    """Look at data, and write a study file with suggestions.

    Each suggestion has its reason beside it. Settings that you give as flags are kept. Tries each method for some
    seconds, to estimate what 15 minutes, an hour and a night could detect on this machine.
    """
    require_tune("tuneoff init")
    from tuneoff.cli import init as first_study

    written = first_study.write_first_study(
        files or (), given, output, methods=_method_names(methods), force=force, probe=not no_probe
    )
    _shown(
        json.dumps(first_study.study_as_json(written)) if as_json else first_study.study_as_text(written),
        as_json=as_json,
    )
    return DONE


@app.command()
@takes_study_flags
def train(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="One of `tuneoff methods`.")],
    study: StudyFile = None,
    preset: Preset = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", metavar="X", help="Peak learning rate of the method.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A hyper-parameter of the method. Repeatable."),
    ] = None,
    predictions: Outside = None,
    output: Output = None,
    report_to: ReportTo = None,
    no_texts: NoTexts = False,
    quiet: Quiet = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    *,
    given: Mapping[str, Any],
) -> "int | Study":
    """Adapt a model in one way, score it and save it.

    `tuneoff train METHOD --help` shows the flags of a method; `tuneoff summarize` uses what is saved.
    """
    from tuneoff.cli.study import StudyFlags
    from tuneoff.spec.toml import Override
    from tuneoff.study.study_file import parse_setting, read_study

    method = method.replace("-", "_")
    overrides = [Override(*entry) for entry in [*overrides_of(given), *outside_predictions(predictions or ())]]
    overrides.append(Override(("methods",), (method,), f"train {method}"))
    overrides += [parse_setting(text, method) for text in set_ or ()]
    if learning_rate is not None:
        overrides.append(Override(("hyperparameters", method, "learning_rate"), learning_rate, "--learning-rate"))
    spec = read_study(study, preset, overrides)
    flags = StudyFlags(report_to=report_to or (), keep_texts=not no_texts, quiet=quiet)
    return _carry_out(spec, output or Path("runs") / f"{spec.name}-{method}", flags, dry_run=dry_run, as_json=as_json)


def _carry_out(spec: "StudySpec", folder: Path, flags: "StudyFlags", *, dry_run: bool, as_json: bool) -> "int | Study":
    """Dry run: the plan on stdout. Otherwise the study, and its summary on stdout with --json."""
    require_tune("a study")
    from tuneoff.cli.plans import plan_as_json, plan_as_text
    from tuneoff.cli.study import plan_study, run_study
    from tuneoff.results.store import placed
    from tuneoff.study.runner import check_before_runs

    with placed(folder, say) as at:
        if dry_run:
            prepared = plan_study(spec, at, flags)
            check_before_runs(prepared)
            _shown(json.dumps(plan_as_json(prepared)) if as_json else plan_as_text(prepared), as_json=as_json)
            return DONE
        study = run_study(spec, at, flags)
    if as_json:
        show_json(study.summary.model_dump_json())
    return study


@app.command()
def summarize(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder of a study (its winner is used) or of one run: runs/STUDY/runs/RUN."
        ),
    ],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE|FOLDER|-]...",
            help="Texts, data files with a document in each row, or folders or zip archives of them. `-`: stdin.",
        ),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            "--field",
            metavar="NAME=VALUE",
            help="Value of a {NAME} in the run's instruction; takes precedence over a column. Repeatable.",
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option("--encoding", metavar="NAME", help="Encoding of text files, such as cp1252; else it is detected."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option("--method", metavar="NAME", help="For a study: use this method's run instead of the winner."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="For a study of several models: use a run on this one."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write the texts there: JSON Lines for .jsonl, else one a line."),
    ] = None,
    document_column: Annotated[
        str | None,
        typer.Option(
            "--document-column",
            metavar="NAME",
            help="Column of the documents in data files.",
            show_default="that of the study, else document, text ...",
        ),
    ] = None,
    long: Annotated[
        str,
        typer.Option(
            "--long",
            metavar="cut|map-reduce",
            help="A document that is too long for one prompt: read its beginning, or read it in parts and make the "
            "text of their texts.",
        ),
    ] = "cut",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line: id, text.")] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> int:
    """Write texts for new documents with a trained model.

    It is the winner of a study, or any finished run.
    """
    from tuneoff.cli.documents import given_fields, read_documents
    from tuneoff.cli.new_texts import check_long, check_output, report_texts
    from tuneoff.cli.unfinished_texts import UnfinishedTexts
    from tuneoff.cli.verdicts import columns_of_training, select_run

    _prepare_to_compute("tuneoff summarize")
    rule = check_long(long)
    if not files and sys.stdin is not None and sys.stdin.isatty():
        raise UserError(f"no document; name a file (tuneoff summarize {run} FILE) or pipe a text into this command")
    sources = files or [STANDARD_INPUT]
    chosen = select_run(_folder(run), method, model)
    if output is not None:
        check_output(output, sources)
    spec = chosen.record.spec
    given = given_fields(field or ())
    found = read_documents(sources, spec, given, encoding, columns_of_training(chosen), document_column, output)
    unfinished = None
    if output is not None:
        identity = f"{chosen.record.run_id} {rule}"
        unfinished = UnfinishedTexts(output, identity, found.documents, spec.generate.batch_size)
        if unfinished:
            say(f"{len(unfinished)} of {len(found.documents)} texts are there already, in {unfinished.path}")
    from tuneoff.long_documents import write_texts
    from tuneoff.run import load_adapted  # loads torch; a mistake in the documents is reported before

    generator = load_adapted(chosen, trust_remote_code=trust_remote_code)
    for note in generator.notes:
        say(f"note: {note}")
    texts = write_texts(generator, found.documents[len(unfinished or ()) :], rule)
    if unfinished is None:
        return report_texts(texts, found, output, as_json=as_json)
    code = report_texts(unfinished.continued(texts), found, output, as_json=as_json)
    unfinished.remove()
    return code


@app.command()
def export(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder of a study (its winner is used) or of one run: runs/STUDY/runs/RUN."
        ),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORM",
            help="`adapter` (a small file beside the base model), `merged` (a whole model for transformers), `gguf` "
            "(for llama.cpp) or `ollama` (the same with a Modelfile).",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="DIR", help="A new folder. Default: exports/STUDY-METHOD-FORM.", show_default=False
        ),
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option(
            "--quantize",
            metavar="TYPE",
            help="Numbers of a GGUF file: f32, bf16, f16 or q8_0.",
            show_default="f16",
        ),
    ] = None,
    check: Annotated[
        int, typer.Option("--check", metavar="N", min=1, help="Compare the texts of at most N test documents.")
    ] = 100,
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Do not run the export; its card says that it was not checked.")
    ] = False,
    field: Annotated[
        list[str] | None,
        typer.Option(
            "--field", metavar="NAME=VALUE", help="For ollama: value of a {field} in the instruction. Repeatable."
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", metavar="NAME", help="Export this method instead of the winner.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="In a study of several models: which base model.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what `export.json` holds.")] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> int:
    """Write a model for other programs, and check it there.

    The other program loads the export and writes the texts of test documents. Their scores are compared with those of
    the study.
    """
    from tuneoff.cli.documents import given_fields
    from tuneoff.cli.exports import asked_for, carry_out_export
    from tuneoff.cli.verdicts import select_run

    _prepare_to_compute("tuneoff export")
    wanted = asked_for(to, quantize, given_fields(field or ()))
    chosen = select_run(_folder(run), method, model)
    documents = 0 if no_check else check
    done = carry_out_export(chosen, wanted, output, documents, trust_remote_code=trust_remote_code)
    if as_json:
        show_json(done.content.model_dump_json())
    else:
        show(f"{done.folder}\n{done.content.sentence}")
    return DONE


@app.command()
def push(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Folder of an export; or of a study or a run, which is then exported without a check: as adapter, or "
            "merged if it is none.",
        ),
    ],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Model on the Hugging Face Hub.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")] = False,
    public: Annotated[
        bool, typer.Option("--public", help="A repository that is made is public; by default it is private.")
    ] = False,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            metavar="OWNER/NAME",
            help="Data set of the Hub that the test documents are from, for .eval_results/.",
            show_default="for the starter data, theirs",
        ),
    ] = None,
    task: Annotated[
        str, typer.Option("--task", metavar="ID", help="Task of that data set, as its eval.yaml names it.")
    ] = "default",
    with_texts: Annotated[
        bool, typer.Option("--with-texts", help="Also if the prompt holds documents of the training data.")
    ] = False,
    method: Annotated[
        str | None, typer.Option("--method", metavar="NAME", help="Of a study: this method instead of the winner.")
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
) -> int:
    """Publish a model and its card on the Hugging Face Hub.

    The card has the verdict, and its metadata the score.

    The token is that of `hf auth login` or HF_TOKEN. Documents and generated texts of the study are not sent.
    """
    from tuneoff.cli.pushes import PushFlags, carry_out_push

    _prepare_to_compute("tuneoff push")
    flags = PushFlags(dry_run, public, dataset, task, with_texts, method, trust_remote_code)
    show(carry_out_push(_folder(run), repository, flags))
    return DONE


@app.command("try")
def try_methods(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a study.")],
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port of the page.", show_default="a free one")
    ] = 0,
    trust_remote_code: TrustRemoteCode = False,
) -> int:
    """Open a page that shows what all methods write.

    It is on this machine, and writes texts for a document that you paste.

    Only this machine can reach the page, and only with the token in its address. Ctrl-C ends it.
    """
    from tuneoff.cli.tries import open_page

    _prepare_to_compute("tuneoff try")
    page = open_page(_folder(folder), port, trust_remote_code=trust_remote_code)
    show(page.address)
    say("open this address in a browser on this machine; Ctrl-C ends it")
    with contextlib.suppress(KeyboardInterrupt):
        page.serve()
    return DONE


def _method_names(typed: Sequence[str] | None) -> tuple[str, ...]:
    """The names that `--methods` was given, which are separated by commas."""
    return tuple(name.strip() for name in ",".join(typed or ()).split(",") if name.strip())


def _shown(text: str, *, as_json: bool) -> None:
    if as_json:
        show_json(text)
    else:
        show(text)


def _folder(path: Path) -> Path:
    """The folder that was named, or that a study in an object store was copied to. Raises `UserError` for a file."""
    from tuneoff.results.store import restored, url_of

    url = url_of(path)
    if url is not None:
        return restored(url)
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: a file, where a folder was expected; name the folder that `tuneoff compare` wrote")
    return path


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a study.")],
    wanted: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="`html` writes the page; `latex` (table, Methods paragraph and bibliography), `markdown`, `csv` and "
            "`bibtex` are printed.",
        ),
    ] = "html",
) -> int:
    """Write the report of a study again, or print its table.

    It is made from the study's records. In LaTeX and Markdown the table has the Methods paragraph beside it.
    """
    from tuneoff.api import load_study
    from tuneoff.results.store import placed

    if wanted != "html":
        from tuneoff.report.paper import write_as

        study = load_study(_folder(folder))
        show(write_as(wanted, study.summary, study.stored).rstrip("\n"))
        return DONE
    with placed(folder, say) as at:
        written = load_study(_folder(at)).write_report()
    show(str(written.page))
    if written.pictures.problem is None:
        return DONE
    return complain(f"the page is written, but not all of its pictures: {written.pictures.problem}", DONE)


@app.command()
def watch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a study, which may not be there yet.")],
    page: Annotated[bool, typer.Option("--page", help="Show it on a page of this machine instead.")] = False,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port of the page.", show_default="a free one")
    ] = 0,
) -> int:
    """Show a study while another program or machine carries it out.

    Plan, runs, scores and verdict so far, time left, memory. Reads the folder, and writes nothing. Ends when the study
    ends.
    """
    from tuneoff.cli.watches import has_ended, open_watch_page, study_watch
    from tuneoff.cli.watches import watch as show_study

    watched = study_watch(folder)
    with contextlib.suppress(KeyboardInterrupt):
        if page:
            opened = open_watch_page(watched, port)
            show(opened.address)
            say("open this address in a browser on this machine; Ctrl-C ends it")
            opened.serve()
        else:
            show_study(watched, until=has_ended(watched))
    return DONE


@app.command()
def work(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a study that is shared.")],
    limit: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="End after 2h, 90m ...: the run in progress saves its state."),
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Leave runs that need more than 16G ... for others.")
    ] = None,
    devices: Annotated[
        str | None, typer.Option("--devices", metavar="0,1", help="Accelerators to use; as CUDA_VISIBLE_DEVICES.")
    ] = None,
    status: Annotated[bool, typer.Option("--status", help="Only show who carries out which run.")] = False,
    trust_remote_code: TrustRemoteCode = False,
    quiet: Quiet = False,
) -> int:
    """Carry out runs of a study that several machines share.

    `compare --engine shared` has begun it, and this machine sees its folder. Takes runs that nobody else works on, and
    ends when none is left. If a worker dies, another one continues its run from the last state. Data and models must be
    under the same paths on all machines.
    """
    from tuneoff.cli.work import WorkFlags, status_as_text, work_in

    if status:
        show(status_as_text(_folder(folder)))
        return DONE
    require_tune("tuneoff work")
    work_in(_folder(folder), WorkFlags(limit, memory, devices, trust_remote_code, quiet))
    return DONE


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a study, or of one run.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Check every file of a folder against its digest.

    Changes no file. Exit code 0: no file is damaged or missing; 1: some are.
    """
    from tuneoff.cli.verification import files_as_json, files_as_text, is_whole
    from tuneoff.results.verification import verify as check_files

    files = list(check_files(_folder(folder)))
    _shown(files_as_json(folder, files) if as_json else files_as_text(folder, files), as_json=as_json)
    return DONE if is_whole(files) else FAILED


Margin = Annotated[
    float | None,
    typer.Option(
        "--margin",
        metavar="POINTS",
        help="Differences below this do not matter in practice.",
        show_default="the study's",
    ),
]


SCORES = "Scores of other programs"


@app.command()
def judge(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="DIR|FILE|NAME=FILE...",
            help="Folders of studies. Or scores: tables (CSV, TSV, JSON, Parquet), samples of lm-evaluation-harness, "
            "logs of inspect_ai, instances of Every Eval Ever, or folders of these.",
        ),
    ],
    margin: Margin = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="Score to judge by: rouge1, rouge2, rougeL, rougeLsum ..., or a metric of the files.",
            show_default="the study's, or the first of the files",
        ),
    ] = None,
    ratings: Annotated[
        list[Path] | None,
        typer.Option(
            "--ratings",
            metavar="FILE",
            help="File of ratings outside the study's folder (ratings*.json inside it are found). Repeatable.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="PAGE.html",
            help="Write a report there; also of the rows of several studies together.",
            rich_help_panel=SCORES,
        ),
    ] = None,
    lower_is_better: Annotated[
        bool, typer.Option("--lower-is-better", help="Less of the metric is better.", rich_help_panel=SCORES)
    ] = False,
    systems: Annotated[
        str | None, typer.Option("--systems", metavar="A,B", help="Compare only these.", rich_help_panel=SCORES)
    ] = None,
    system_column: Annotated[
        str | None,
        typer.Option("--system-column", metavar="NAME", help="Column of the systems.", rich_help_panel=SCORES),
    ] = None,
    item_column: Annotated[
        str | None,
        typer.Option("--item-column", metavar="NAME", help="Column of what is scored.", rich_help_panel=SCORES),
    ] = None,
    score_column: Annotated[
        str | None,
        typer.Option("--score-column", metavar="NAME", help="Column of the scores.", rich_help_panel=SCORES),
    ] = None,
    seed_column: Annotated[
        str | None,
        typer.Option("--seed-column", metavar="NAME", help="Column of the seeds.", rich_help_panel=SCORES),
    ] = None,
    group_column: Annotated[
        str | None,
        typer.Option(
            "--group-column",
            metavar="NAME",
            help="Column of the groups: items of one group are not independent. Also in other formats: doc.title.",
            rich_help_panel=SCORES,
        ),
    ] = None,
    metric_column: Annotated[
        str | None,
        typer.Option("--metric-column", metavar="NAME", help="Column of the metrics.", rich_help_panel=SCORES),
    ] = None,
) -> int:
    """Judge studies again from their records, or any scores. Needs no model and no torch."""
    from tuneoff.cli import score_files, verdicts
    from tuneoff.scores import ScoreColumns

    columns = ScoreColumns(
        system=system_column,
        item=item_column,
        score=score_column,
        seed=seed_column,
        group=group_column,
        metric=metric_column,
        systems=tuple(name.strip() for name in (systems or "").split(",") if name.strip()),
    )
    flags = score_files.ScoreFlags(columns, report, lower_is_better=lower_is_better)
    folders, files = score_files.split_sources(sources, flags)
    found = []
    if folders or not files:
        studies = [_folder(folder) for folder in folders]
        page = None if files else report
        found.append(verdicts.judge_output(studies, metric, margin, ratings or (), as_json=as_json, report=page))
    if files:
        found.append(score_files.judge_scores_output(files, metric, margin, flags, as_json=as_json))
    _shown(score_files.joined_json(found) if as_json else "\n".join(found), as_json=as_json)
    return DONE


@app.command()
def rescore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a study with its texts.")],
    stemmer: Annotated[bool, typer.Option("--stemmer/--no-stemmer", help="Porter's stemmer.")] = True,
    references: Annotated[
        str, typer.Option("--references", metavar="best|first", help="Which of several references to score against.")
    ] = "best",
    words: Annotated[
        str | None,
        typer.Option(
            "--rouge-words", metavar="english|unicode|characters", help="What ROUGE counts; by default as in the study."
        ),
    ] = None,
    margin: Margin = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Score stored texts by other ROUGE settings, and judge.

    Changes no file.
    """
    from tuneoff.cli import verdicts

    study = _folder(folder)
    found = verdicts.rescore_output(study, margin, stemmer=stemmer, references=references, words=words, as_json=as_json)
    _shown(found, as_json=as_json)
    return DONE


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(metavar="A", help="Folder of a study.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Folder of another study.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Compare two studies run by run.

    Shows how much of a difference comes from training, and how much from scoring.
    """
    from tuneoff.cli import verdicts

    _shown(verdicts.diff_output(_folder(first), _folder(second), as_json=as_json), as_json=as_json)
    return DONE


@app.command("import-peft")
def import_peft(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="PEFT's method_comparison/*/results/*.json.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Judge result files of PEFT's own method comparison.

    Shows intervals and Pareto fronts.
    """
    from tuneoff.cli import verdicts

    _shown(verdicts.peft_output(files, as_json=as_json), as_json=as_json)
    return DONE


@app.command("methods")
def list_methods(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[METHOD]...", help="Show these, with flags and ranges.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """List the methods with their hyper-parameters and defaults."""
    from tuneoff.cli import method_pages as pages

    if as_json:
        show_json(json.dumps(pages.methods_as_json(names or ())))
    else:
        show(pages.method_pages(names) if names else pages.methods_as_text())
    return DONE


@app.command()
def starter() -> int:
    """Install the starter model and the starter data."""
    from tuneoff.starter_packages import VERSIONS, install

    install()
    say(f"{join_words(list(VERSIONS))} are installed; next: tuneoff compare --preset starter --budget 15m")
    return DONE


@app.command()
def doctor(
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Folder of a study, for --strict.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Look for what is unsafe or damaged instead; exit code 1 if there is any.")
    ] = False,
) -> int:
    """Show what tuneoff finds on this machine.

    That is device, precision, memory, sensors, versions, starter model and data. With --strict: unfit versions of
    packages, unsafe variables and permissions, damaged files of the cache and of a study.
    """
    if strict:
        from tuneoff.cli.strict import problems

        found = list(problems(None if folder is None else _folder(folder)))
        text = "\n".join(found) or "Nothing unsafe or damaged was found."
        _shown(json.dumps({"problems": found}) if as_json else text, as_json=as_json)
        return FAILED if found else DONE
    if folder is not None:
        raise UserError(f"doctor {folder}: a folder is checked with --strict only; add it, or leave the folder out")
    require_tune("tuneoff doctor")
    from tuneoff.cli.doctor import as_text, examine

    findings = examine()
    _shown(json.dumps(findings) if as_json else as_text(findings), as_json=as_json)
    return DONE


@app.callback(invoke_without_command=True)
def top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print version and commit, and exit.")] = False,
) -> None:
    """Which way of adapting a language model is worth it for my documents, on my machine, and how sure can I be?"""
    if version:
        from tuneoff.commit import commit

        known = commit()
        show(f"tuneoff {tuneoff.__version__}" + (f" ({known[:12]})" if known else ""))
    elif context.invoked_subcommand is None:
        show(context.get_help())


def invoke(arguments: Sequence[str]) -> "int | Study":
    """Run the command that `arguments` name. Returns its result, or the exit code of a command that ended early."""
    fancy = app.rich_markup_mode
    if list(arguments) in ([], ["--help"]):
        app.rich_markup_mode = None  # the panels of rich take longer to import than the rest of this command
    try:
        group: Any = typer.main.get_command(app)
        typed = settle(arguments, group.commands)
        if HELP & set(arguments):
            _simplify_switches(group.commands.values())
        returned: int | Study | None = group(args=typed, prog_name="tuneoff", standalone_mode=False)
    finally:
        app.rich_markup_mode = fancy
    if HELP & set(arguments) and (method := typed_method(arguments)) is not None:
        from tuneoff.cli.method_pages import method_pages

        show(method_pages([method]))
    return DONE if returned is None else returned


def _simplify_switches(commands: Iterable[Any]) -> None:
    """For help: a switch takes no value, and `--no-` before a flag of a study is what its name says."""
    for command in commands:
        context = typer.Context(command, help_option_names=sorted(HELP, key=len))
        for parameter in command.get_params(context):
            if getattr(parameter, "is_flag", False):
                parameter.metavar = ""
                parameter.secondary_opts = [name for name in parameter.secondary_opts if name not in OPPOSITES]


def dispatch(arguments: Sequence[str], then: "Callable[[Study], None] | None" = None) -> int:
    """Run a command; its exit code. A wrong flag or command is one sentence on stderr and code 2.

    `then` is called with the result of a study that was carried out.
    """
    try:
        returned = invoke(arguments)
    except UsageError as error:
        return complain(usage_sentence(error, arguments, typed_method(arguments)), USAGE)
    if returned == INTERRUPTED:  # typer turns Ctrl-C into a code
        raise KeyboardInterrupt
    if isinstance(returned, int):
        return returned
    if then is not None:
        then(returned)
    return returned.exit_code
