"""`tuneoff work`: this machine takes part in a study whose folder it sees."""

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tuneoff.cli.output import say
from tuneoff.errors import UserError
from tuneoff.results.run_claims import Claims, worker_label
from tuneoff.results.study_dir import StudyDir
from tuneoff.study.executor import Job
from tuneoff.study.progress import Progress
from tuneoff.study.resources import count_parameters, gigabytes, least_memory
from tuneoff.study.shared_folder import SharedFolderExecutor, Worked, take_part
from tuneoff.text import join_words, parse_duration, parse_size, plural, sanitize

_DEVICES = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class WorkFlags:
    """Flags of `work`, as typed."""

    limit: str | None = None
    memory: str | None = None
    devices: str | None = None
    trust_remote_code: bool = False
    quiet: bool = False


def work_in(folder: Path, flags: WorkFlags) -> Worked:
    """Carry out runs of the study in `folder`. Messages go to stderr. Raises `UserError` for what cannot be done."""
    seconds = None if flags.limit is None else parse_duration(flags.limit)
    if flags.limit is not None and seconds is None:
        raise UserError(f"--for {flags.limit}: a time such as 2h, 90m or 1h30m was expected")
    most = None if flags.memory is None else parse_size(flags.memory)
    if flags.memory is not None and most is None:
        raise UserError(f"--memory {flags.memory}: a size such as 16G or 512M was expected")
    if flags.devices is not None:
        if not re.fullmatch(r"\d+(,\d+)*", flags.devices):
            raise UserError(f"--devices {flags.devices}: numbers of accelerators separated by commas, such as 0,1")
        os.environ[_DEVICES] = flags.devices
    fits = (lambda _job: True) if most is None else _fitting(most)
    with Progress(None, quiet=flags.quiet) as progress, _time_limit(seconds):
        executor = SharedFolderExecutor(may_take=fits)
        if not flags.quiet:
            say(f"{executor.worker}: takes part in {folder}{_what_it_reads(folder)}")
        with executor:
            worked = take_part(folder, executor, progress, trust_remote_code=flags.trust_remote_code, notify=say)
    if not flags.quiet:
        rest = f", {plural(worked.left, 'run')} left for others" if worked.left else ""
        say(f"{plural(worked.done, 'run')} carried out here{rest}")
    return worked


def _what_it_reads(folder: Path) -> str:
    """The data and models of a shared study, which a stranger may have chosen; empty for any other folder."""
    work = StudyDir(folder.absolute()).read_work()
    if work is None:
        return ""
    data = work.spec.data
    names = [*(data.files or [data.source or ""]), *(model.name for model in work.spec.models)]
    return f", which reads {join_words(names)} in {work.directory}"


def status_as_text(folder: Path) -> str:
    """Who carries out which run, as a table; claims of runs that have ended are left out."""
    if not StudyDir(folder).is_begun():
        raise UserError(f"{folder}: no study; name the folder that `tuneoff compare` was given as --output")
    holders = [each for each in Claims(folder, "").holders() if not StudyDir(folder).run_dir(each.run).has_record()]
    rows: list[tuple[str, ...]] = [("run", "worker", "since (UTC)", "state")]
    rows += [
        tuple(map(sanitize, (each.run, worker_label(each.worker), each.since, each.ended or "working")))
        for each in holders
    ]
    if len(rows) == 1:
        return "no run is claimed"
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _fitting(most: int) -> Callable[[Job], bool]:
    """Whether a run needs at most `most` bytes, by the lower bound that the headers of its model give."""
    parameters: dict[str, int] = {}

    def fits(job: Job) -> bool:
        model = job.spec.model
        if model.name not in parameters:
            parameters[model.name] = count_parameters(model)
        need = least_memory(model, parameters[model.name], job.spec.method.name)
        if need > most:
            say(f"{sanitize(job.name)}: needs at least {gigabytes(need)}, more than --memory; left for others")
        return need <= most

    return fits


@contextlib.contextmanager
def _time_limit(seconds: float | None) -> Iterator[None]:
    """After `seconds` s, the run in progress saves its state and the program ends with exit code 0."""
    if seconds is None:
        yield
        return
    if not hasattr(signal, "setitimer"):
        raise UserError("--for: this system has no timers for programs; stop the worker with Ctrl-C instead")

    def end(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
