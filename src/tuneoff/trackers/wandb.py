"""Weights & Biases: a study is a group of runs. With WANDB_MODE=offline it needs neither an account nor a network.

By default wandb also sends the host's name, the command line, the repository and the installed packages. That is
switched off here. Logged are the spec, losses, memory and CPU use, scores, costs, figures and predictions.
"""

import base64
import configparser
import importlib
import netrc
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tuneoff.errors import UserError
from tuneoff.results.events import Event
from tuneoff.results.run_record import Record
from tuneoff.spec import RunSpec
from tuneoff.spec.row_names import file_name_of
from tuneoff.trackers.base import Figures, Predictions
from tuneoff.trackers.logged import PROJECT, point_of, summary_of, table_of

PUBLIC_HOST = "api.wandb.ai"  # the host that `wandb login` writes to the netrc file
# With an unreachable server, wandb waits at most this long for each run. What is not sent stays on disk.
INIT_SECONDS, FINISH_SECONDS = 30, 120
# Settings differ between releases of wandb (0.19 to 0.31 were checked); those that a release lacks are left out.
_PRIVATE = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "finish_timeout": FINISH_SECONDS,
    "host": "hidden",
    "init_timeout": INIT_SECONDS,
    "save_code": False,
    "silent": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}


class WandbTracker:
    """Logs to wandb. The constructor raises `UserError` if wandb is missing or would ask for an account."""

    def __init__(self, folder: Path) -> None:
        try:
            self._wandb: Any = importlib.import_module("wandb")
        except ImportError as error:
            raise UserError("--report-to wandb: not installed; run: pip install wandb") from error
        self._folder = folder
        self._run: Any = None
        self._offline: Path | None = None  # where offline runs are
        known = type(self._wandb.Settings()).model_fields
        self._settings = self._wandb.Settings(**{key: value for key, value in _PRIVATE.items() if key in known})
        try:
            # the environment's and the workspace's settings
            found = self._wandb.setup().settings
        except Exception as error:  # its checks raise many kinds
            reason = " ".join(str(error).split())
            raise UserError(
                f"--report-to wandb: wandb cannot start: {reason}; check the WANDB_... variables"
            ) from error
        if (server := foreign_server(found.settings_workspace, found.settings_system)) is not None:
            raise UserError(
                f"--report-to wandb: {found.settings_workspace} sends all, your API key too, to {server}; remove "
                "that file, or set WANDB_BASE_URL to the server that you trust"
            )
        if not _has_account(found):
            message = "--report-to wandb: no account is set up; run `wandb login`, or set WANDB_MODE=offline"
            raise UserError(message)

    def start(self, name: str, group: str, spec: RunSpec) -> None:
        """Start a run. A previous run that was not finished is closed first, as failed."""
        if self._run is not None:
            self._run.finish(exit_code=1)
        self._folder.mkdir(parents=True, exist_ok=True)
        shared = os.environ.get("WANDB_RUN_ID")
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=name,
            group=group,
            job_type=spec.method.name,
            config=spec.without_paths().model_dump(mode="json"),
            dir=os.environ.get("WANDB_DIR") or str(self._folder),
            # Set for a whole script, the variable would give all runs of the study one id.
            id=f"{shared}-{file_name_of(spec.method.name)}-{os.urandom(4).hex()}" if shared else None,
            settings=self._settings,
        )
        if self._run.settings.mode in ("offline", "dryrun"):
            self._offline = Path(self._run.settings.sync_dir).parent
        # Each kind of curve has its own axis: on wandb's own step they would be mixed.
        self._run.define_metric("train/step")
        self._run.define_metric("seconds")
        for metrics, axis in (("train/*", "train/step"), ("validation/*", "train/step"), ("resources/*", "seconds")):
            self._run.define_metric(metrics, step_metric=axis)

    def event(self, event: Event) -> None:
        """Log a step, a validation or a resource sample; other events have no curve."""
        point = point_of(event)
        if point is not None:
            self._run.log({point.axis: point.at, **point.values})

    def finish(self, record: Record, figures: Figures = tuple, predictions: Predictions = tuple) -> None:
        """Log scores, costs, figures and predictions, then close the run. Its exit code is 0 if it finished."""
        self._run.summary.update(summary_of(record))
        media: dict[str, Any] = {f"figures/{path.stem}": self._wandb.Html(_html_of(path)) for path in figures()}
        if rows := predictions():
            columns, data = table_of(rows)
            media["predictions"] = self._wandb.Table(columns=columns, data=data)
        if media:
            self._run.log(media)
        run, self._run = self._run, None
        run.finish(exit_code=0 if record.status == "finished" else 1)

    def closing_words(self) -> str | None:
        """How to send offline runs."""
        if self._offline is None:
            return None
        return f"wandb was offline; to send the runs: wandb sync {shlex.quote(str(self._offline))}/offline-run-*"


def _html_of(figure: Path) -> str:
    """An HTML page that shows a PNG file: wandb's image type needs Pillow."""
    data = base64.b64encode(figure.read_bytes()).decode()
    return f'<img alt="" style="max-width:100%" src="data:image/png;base64,{data}">'


def _has_account(settings: Any) -> bool:
    """Whether wandb starts without asking for an account on the terminal."""
    if settings.mode in ("offline", "disabled", "dryrun") or settings.api_key or os.environ.get("WANDB_API_KEY"):
        return True
    if os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    hosts = {urlsplit(str(settings.base_url)).hostname or "", PUBLIC_HOST}
    asked = os.environ.get("NETRC")
    paths = [Path(asked).expanduser()] if asked else [Path.home() / ".netrc", Path.home() / "_netrc"]
    return any(_in_netrc(path, hosts) for path in paths)


def foreign_server(
    workspace: str | os.PathLike[str], system: str | os.PathLike[str], environment: Mapping[str, str] = os.environ
) -> str | None:
    """The server that the settings in the current folder name, unless the user's own settings name it too.

    The folder may be a stranger's, and wandb would send the user's key there.
    """
    if environment.get("WANDB_BASE_URL"):  # takes precedence
        return None
    named = _server_in(workspace)
    return None if named == _server_in(system) else named


def _server_in(path: str | os.PathLike[str]) -> str | None:
    settings = configparser.ConfigParser(interpolation=None)
    try:
        settings.read(path, encoding="utf-8")
        return settings.get("default", "base_url", fallback=None)
    except (configparser.Error, UnicodeDecodeError):  # wandb says what is wrong
        return None


def _in_netrc(path: Path, hosts: set[str]) -> bool:
    try:
        return not hosts.isdisjoint(netrc.netrc(path).hosts)
    except (OSError, netrc.NetrcParseError):
        return False
