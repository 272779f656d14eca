"""Runs of one study as tasks of a Ray cluster: `--engine ray`.

One task a run (`tuneoff.study.ray_task`), by Ray's core interface. A task does what `tuneoff work` does, so claims,
attempts and the one rename cover the loss of a process, a node or this driver. Ray decides where a task runs; a task is
sent again only if its process or its node is lost, never because a run has failed.
"""

import contextlib
import functools
import importlib.util
import os
import re
import secrets
import signal
import sys
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tuneoff import models, stopping
from tuneoff.errors import UserError
from tuneoff.profiling import usable_cores
from tuneoff.results.events import Follower, Note
from tuneoff.results.run_claims import Claims, Worker, worker_label
from tuneoff.results.run_dir import StoredRun
from tuneoff.results.study_dir import StudyDir
from tuneoff.spec import ModelSpec
from tuneoff.study import concurrency, ray_task
from tuneoff.study.executor import Job, Observer
from tuneoff.study.jobs import longest_first, more_of
from tuneoff.study.launcher import Layout
from tuneoff.study.ray_task import RayAnswer, RayTask
from tuneoff.study.resources import count_parameters, gigabytes, least_memory
from tuneoff.study.shared_folder import SharedFolderExecutor, accepted, look_at_server, study_of
from tuneoff.text import parse_size, sanitize

INSTALL = "run pip install 'tuneoff[ray]'"
_NAME = "ray"  # that claims of tasks begin with
_ADDRESS = re.compile(r"auto|[A-Za-z0-9._-]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")
_POLL_SECONDS = 1.0
# A record that another machine has just renamed may be invisible here for as long as NFS keeps attributes.
_SEEN_SECONDS = 60.0
_MOST_LOSSES = 5  # of one run in one start
_AHEAD = 2  # tasks that are submitted for each that can run
_OPEN = (
    "the Ray cluster asks for no token: whoever reaches its ports can run programs on it; set RAY_AUTH_MODE=token on "
    "all nodes"
)
_STORE_BYTES = 100 * 10**6  # of Ray's object store, which holds nothing but texts of JSON


@dataclass(frozen=True)
class _Need:
    """What Ray reserves for a task."""

    cpus: float
    gpus: float
    memory: int


@dataclass
class _Sent:
    """A task that was submitted."""

    job: Job
    worker: str
    follower: Follower | None = None


@dataclass(frozen=True)
class _Nodes:
    """The nodes of a cluster, by what Ray knows of them."""

    resources: Sequence[Mapping[str, float]]

    def has_gpus(self) -> bool:
        """Whether a node has an accelerator."""
        return any(node.get("GPU", 0.0) for node in self.resources)

    def largest_memory(self, cpus: float, gpus: float) -> float:
        """The most memory of a node that has these processors and accelerators: a head often has none."""
        able = [node for node in self.resources if self._tasks(node, _Need(cpus, gpus, 0))]
        return max((node.get("memory", 0.0) for node in able), default=0.0)

    def smallest_share(self, gpus: float) -> float:
        """Processors of a task, if a node does one run at a time, or one for each of its accelerators."""
        shares = [
            node["CPU"] // max(1.0, node.get("GPU", 0.0) / gpus if gpus else 1.0)
            for node in self.resources
            if node.get("CPU", 0.0) and (not gpus or node.get("GPU", 0.0))
        ]
        return max(1.0, min(shares, default=1.0))

    def can_take(self, need: _Need) -> bool:
        """Whether one of them is large enough for a task."""
        return any(self._tasks(node, need) for node in self.resources)

    def capacity(self, need: _Need) -> int:
        """Tasks that run at the same time."""
        return sum(self._tasks(node, need) for node in self.resources)

    def most_on_one(self, need: _Need) -> int:
        """Tasks that run at the same time on one node."""
        return max((self._tasks(node, need) for node in self.resources), default=0)

    @staticmethod
    def _tasks(node: Mapping[str, float], need: _Need) -> int:
        wanted = {"CPU": need.cpus, "GPU": need.gpus, "memory": float(need.memory)}
        return int(min(node.get(name, 0.0) / amount + 1e-9 for name, amount in wanted.items() if amount))


class RayExecutor:
    """Sends runs to a Ray cluster, and yields them as they end.

    The same command, given again after this process was lost, goes on: tasks end with their driver, and the claims that
    they held are released by the next one.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        address: str | None = None,
        cpus: str | None = None,
        memory: str | None = None,
        gpus: str | None = None,
        poll_seconds: float = _POLL_SECONDS,
        task: Callable[[str], str] = ray_task.carry_out_task,
        connect: Callable[[str | None], AbstractContextManager[Any]] | None = None,
    ) -> None:
        """Raises `UserError` for a setting that is not possible, or without Ray.

        Args:
            layout: must be one run at a time: concurrent runs are tasks.
            address: of the cluster, HOST:PORT, or `auto` for the one that this machine is part of. Without it, that of
                RAY_ADDRESS, or else a cluster of this machine alone, which ends with this process.
            cpus: that Ray reserves for a task, and its threads; by default, a node does one run at a time.
            memory: that Ray reserves for a task; by default, what the model's size suggests.
            gpus: that Ray reserves for a task, such as 1 or 0.5; by default one if the cluster has any.
            poll_seconds: pause between two looks at the folder.
            task: what a task does, an importable function.
            connect: gives the module `ray`, connected to the cluster at an address.
        """
        if layout.processes > 1:
            raise UserError("--workers: with --engine ray, set the size of a task: --engine ray:cpus=2")
        if address is not None and not _ADDRESS.fullmatch(address):
            raise UserError(f"--engine ray: address={address}: auto or HOST:PORT was expected")
        self._address = address or os.environ.get("RAY_ADDRESS")
        self._cpus = None if cpus is None else _amount("cpus", cpus)
        self._gpus = None if gpus is None else _amount("gpus", gpus)
        self._memory = None if memory is None else parse_size(memory)
        if memory is not None and not self._memory:
            raise UserError(f"--engine ray: memory={memory}: a size such as 16G was expected")
        if self._cpus == 0:
            raise UserError("--engine ray: cpus=0: a run needs processors; 0.5 is possible")
        if connect is None and importlib.util.find_spec("ray") is None:
            raise UserError(f"--engine ray needs ray, which is not installed; {INSTALL}")
        self._poll, self._task, self._connect = poll_seconds, task, connect or _connected
        self._connection = contextlib.ExitStack()
        self._ray: Any = None
        self._freed: set[Path] = set()
        self._watched = SharedFolderExecutor(may_take=lambda _job: False)
        self._memories: dict[ModelSpec, tuple[int, int]] = {}
        self._at_once = 1  # tasks, when some were submitted last
        self._said_too_large = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def run(self, jobs: Sequence[Job], observer: Observer) -> Iterator[StoredRun]:
        """See `Executor.run`. Raises `UserError` if the cluster cannot be used, or a node does not suit the study.

        A run whose task is lost too often is left: the next start tries it again.
        """
        if not jobs:
            return
        with stopping.signals_raise():
            if self._ray is None:
                self._ray = self._connection.enter_context(self._connect(self._address))
                if not _has_tokens():
                    observer.event(jobs[0], Note(text=_OPEN))
            self._release_lost(study_of(jobs[0]))
            self._watched.claims_of(jobs[0])  # of this study, `health` reads the claims
            yield from self._run(jobs, observer)

    def _release_lost(self, study: StudyDir) -> None:
        """End the claims of an earlier driver's tasks. This process holds the study's lock, so that driver is gone."""
        if study.path not in self._freed:
            Claims(study.path, "").release_lost(f"{_NAME} ")
            self._freed.add(study.path)

    def _run(self, jobs: Sequence[Job], observer: Observer) -> Iterator[StoredRun]:
        waiting = deque(longest_first(jobs) if self._capacity(jobs[0]) > 1 else jobs)
        losses = Counter[str]()
        sent: dict[Any, _Sent] = {}
        try:
            while waiting or sent:
                stopping.raise_again()
                self._send(waiting, sent, observer)
                ended, _ = self._ray.wait(list(sent), num_returns=1, timeout=self._poll)
                for task in sent.values():
                    self._follow(task, observer)
                for reference in ended:
                    task = sent.pop(reference)
                    if self._was_lost(reference, task, observer) or self._was_interrupted(task.job):
                        losses[task.job.run_id] += 1
                        if losses[task.job.run_id] < _MOST_LOSSES:
                            waiting.append(task.job)
                            continue
                        text = f"lost {_MOST_LOSSES} times, so it is left; the same command tries it again"
                        observer.event(task.job, Note(text=text))
                    elif (run := self._result(task.job)) is not None:
                        self._end(task, run, observer)
                        yield run
                if sent and not waiting and len(sent) < self._capacity(jobs[0]):
                    waiting.extend(longest_first(more_of(jobs)))
        finally:
            if sent:
                with stopping.signals_ignored():
                    self._cancel(list(sent))

    def capacity(self) -> int:
        """Tasks that the cluster can do at the same time, as it was when some were submitted last."""
        return self._at_once

    def health(self) -> list[Worker]:
        """By the claims of the tasks; those that wait for a node have none."""
        return self._watched.health()

    def _capacity(self, job: Job) -> int:
        """Tasks like this one that the cluster can do at the same time."""
        nodes = _nodes(self._ray)
        return nodes.capacity(self._need(job, nodes))

    def _send(self, waiting: deque[Job], sent: dict[Any, _Sent], observer: Observer) -> None:
        """Submit as many tasks as the cluster can run, and some more, so that no node waits for this process."""
        nodes = _nodes(self._ray)
        while waiting:
            job = waiting[0]
            need = self._need(job, nodes)
            self._at_once = max(1, nodes.capacity(need))
            if len(sent) >= _AHEAD * self._at_once:
                return
            if not nodes.can_take(need):
                self._report_too_large(job, need, observer)
            waiting.popleft()
            task = RayTask(
                directory=str(Path.cwd()),
                study=str(study_of(job).path.absolute()),
                spec=job.spec,
                run_id=job.run_id,
                name=job.name,
                keep_texts=job.keep_texts,
                number_format=job.number_format,
                worker=f"{_NAME} {secrets.token_hex(4)}",
                threads=max(1, int(need.cpus)),
                processes=max(1, nodes.most_on_one(need)),
            )
            remote = self._ray.remote(self._task).options(
                name=job.name,
                num_cpus=need.cpus,
                num_gpus=need.gpus,
                memory=need.memory,
                max_retries=0,  # this process sends a run again, after it has released the claim of the lost task
            )
            sent[remote.remote(task.model_dump_json())] = _Sent(job, task.worker)

    def _need(self, job: Job, nodes: "_Nodes") -> _Need:
        """What was asked for; else a node's share of processors, one accelerator, and memory by the model's size."""
        gpus = self._gpus if self._gpus is not None else float(nodes.has_gpus())
        cpus = self._cpus if self._cpus is not None else nodes.smallest_share(gpus)
        memory = self._memory
        if memory is None:
            if job.spec.model not in self._memories:
                self._memories[job.spec.model] = _memory_of(job.spec.model)
            least, typical = self._memories[job.spec.model]
            memory = max(least, int(min(typical, nodes.largest_memory(cpus, gpus))))
        return _Need(cpus, gpus, memory)

    def _report_too_large(self, job: Job, need: _Need, observer: Observer) -> None:
        """Say that no node is large enough: an error if no other node can come, else a note."""
        wanted = f"{need.cpus:g} processors, {need.gpus:g} accelerators and {gigabytes(need.memory)} of memory"
        text = f"no node of the cluster has {wanted} for a run; set less, as in --engine ray:cpus=1,memory=4G"
        if self._address is None:
            raise UserError(f"--engine ray: {text}")
        if not self._said_too_large:
            observer.event(job, Note(text=f"{text}, or wait for a larger node"))
            self._said_too_large = True

    def _follow(self, task: _Sent, observer: Observer) -> None:
        """Pass on what the run has reported since the last look."""
        if task.follower is None:
            study = study_of(task.job)
            holder = Claims(study.path, "").holder(task.job.dir.name)
            if holder is None or not holder.worker.startswith(f"{task.worker} "):
                return
            task.follower = Follower(study.attempt_dir(task.job.dir.name, holder.number).events)
            observer.started(task.job)
            observer.event(task.job, Note(text=f"carried out by {_node_of(holder.worker, task)}"))
        for event in task.follower.poll():
            observer.event(task.job, event)

    def _end(self, task: _Sent, run: StoredRun, observer: Observer) -> None:
        if task.follower is None:  # it has started and ended between two looks
            task.follower = Follower(run.dir.events)
            observer.started(task.job)
        task.follower.follow(run.dir.events)  # the folder of the attempt was renamed
        self._follow(task, observer)
        observer.ended(task.job, run)

    def _was_lost(self, reference: Any, task: _Sent, observer: Observer) -> bool:
        """Whether the process or the node of a task is gone. Raises `UserError` if the node refused the run."""
        errors = self._ray.exceptions
        try:
            answer = RayAnswer.model_validate_json(self._ray.get(reference))
        except (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.OutOfMemoryError,
            errors.ObjectLostError,
        ) as lost:
            claims = Claims(study_of(task.job).path, "")
            holder = claims.holder(task.job.dir.name)
            claims.release_lost(f"{task.worker} ", task.job.dir.name)
            what = "node" if isinstance(lost, errors.NodeDiedError) else "process"
            had_begun = holder is not None and holder.worker.startswith(f"{task.worker} ")
            who = f" ({_node_of(holder.worker, task)})" if holder is not None and had_begun else ""
            text = f"its {what} in the Ray cluster was lost{who}; another one goes on with it"
            observer.event(task.job, Note(text=text))
            return True
        except errors.RayTaskError as error:
            raise UserError(
                f"--engine ray: a node of the cluster cannot carry out runs ({_last_line(error)}); install the same "
                "versions of tuneoff and its extra `tune` on all nodes"
            ) from error
        if answer.refused is not None:
            raise UserError(f"--engine ray: the node {sanitize(answer.node)} {answer.refused}")
        return False

    def _was_interrupted(self, job: Job) -> bool:
        """Whether the system ended the process of the run, and not that of the task."""
        look_at_server(job.dir.path.parent)
        run = accepted(job.dir)
        return run is not None and run.record.status == "interrupted"

    def _result(self, job: Job) -> StoredRun | None:
        """The run that counts; None if it has failed without a record. Raises `UserError` if it does not appear."""
        end = time.monotonic() + _SEEN_SECONDS
        while time.monotonic() < end:
            look = self._watched.look_at(job)
            ended, run = look.ended, look.run
            if ended:
                return run
            time.sleep(self._poll / 10)
        raise UserError(
            f"{job.dir.path}: a node has carried out this run, and its record does not appear here; the study's folder "
            "must be on a disk that all nodes share"
        )

    def _cancel(self, references: list[Any]) -> None:
        """End tasks: the runs in progress save their states."""
        with contextlib.suppress(Exception):  # the cluster may be gone
            for reference in references:
                self._ray.cancel(reference)
            _, left = self._ray.wait(
                references, num_returns=len(references), timeout=stopping.GRACE_SECONDS, fetch_local=False
            )
            for reference in left:
                self._ray.cancel(reference, force=True)


def _node_of(worker: str, task: _Sent) -> str:
    """Host and process of a task, from what its claim is called."""
    return worker_label(worker.removeprefix(f"{task.worker} "))


def _amount(name: str, text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = -1
    if not 0 <= amount <= 10_000:
        raise UserError(f"--engine ray: {name}={text}: a number was expected, such as 1 or 0.5")
    return amount


def _memory_of(model: ModelSpec) -> tuple[int, int]:
    """Bytes that a run needs at least, and what it should have."""
    least = least_memory(model, count_parameters(model), "full")
    return least, int(concurrency.memory_of_a_run(models.weights_folder(model)))


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return sanitize(lines[-1].strip()) if lines else type(error).__name__


# ---- the cluster ----------------------------------------------------------------------------------------------------


def _nodes(ray: Any) -> _Nodes:
    return _Nodes([node["Resources"] for node in ray.nodes() if node["Alive"]])


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """The module `ray`, connected to a cluster. Without an address, one of this machine alone, which ends with this.

    That one listens on 127.0.0.1, asks for a token that only this process knows, and reports to nobody.
    """
    ours = {
        "address": "local",
        "num_cpus": usable_cores(),
        "object_store_memory": _STORE_BYTES,
        "include_dashboard": False,
    }
    with _variables({} if address else _own_variables()):  # Ray reads them when it is imported
        with _without_warnings():
            import ray

        if ray.is_initialized():  # by the program that calls us
            yield ray
            return
        before = signal.getsignal(signal.SIGTERM)
        try:
            with _without_warnings():
                ray.init(**({"address": address} if address else ours), log_to_driver=False, logging_level="ERROR")
        except Exception as error:  # Ray raises many kinds, bare exceptions among them
            where = f"the cluster at {address} cannot be used" if address else "no cluster could be started here"
            raise UserError(f"--engine ray: {where}: {_last_line(error)}") from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)  # Ray puts its own in its place
        try:
            _check_loopback(ray, address)
            yield ray
        finally:
            ray.shutdown()


def _check_loopback(ray: Any, address: str | None) -> None:
    """Raise `UserError` if a cluster that we started can be reached from other machines."""
    if address is None and ray.util.get_node_ip_address() != "127.0.0.1":
        raise UserError(
            "--engine ray: the program has imported Ray before, so its ports would be open to other machines; import "
            "it later, or connect to a cluster with --address"
        )


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Ray warns of its own future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@functools.cache
def _own_variables() -> dict[str, str]:
    """The environment of a cluster that we start: the same in the whole life of a process, because Ray reads it once.

    If the calling program has imported Ray, it has decided about tokens.
    """
    rest = {
        "RAY_USAGE_STATS_ENABLED": "0",
        # On a busy machine, the processes of a cluster take longer to start than the half minute that Ray waits.
        "RAY_raylet_start_wait_time_s": "180",
        # Without clusters of several machines, which is what this is called, Ray listens on 127.0.0.1 only.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    if "ray" in sys.modules:
        return rest
    token = os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, **rest}


@contextlib.contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _has_tokens() -> bool:
    """Whether the cluster asks for a token."""
    return os.environ.get("RAY_AUTH_MODE") == "token"
