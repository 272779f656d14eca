"""What `tuneoff push` sends to the Hugging Face Hub: the files of an export, with its evaluation as the Hub reads it.

Nothing else of a study is sent: no documents, no generated texts, no logs. The token is the one of huggingface_hub
(`hf auth login`, or HF_TOKEN); it is never an argument.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tuneoff import metrics
from tuneoff.adapter_settings import check_stored
from tuneoff.checked_export import CARD, EXPORT_FILE, ExportFile, read_export
from tuneoff.errors import RunFailure, UserError
from tuneoff.export.formats import FORMATS
from tuneoff.export.wanted import Form
from tuneoff.model_folder import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    gguf_architecture,
    read_adapter_settings,
    read_header,
)
from tuneoff.regular_files import check_filled, open_regular

EVAL_FILE = ".eval_results/tuneoff.yaml"
# As `validate_repo_id` of huggingface_hub 2.4.
_REPOSITORY = re.compile(r"\w(?:[\w.-]*\w)?/\w(?:[\w.-]*\w)?", re.ASCII)
_MOST_NAME = 96
_TEMPLATES = "additional_chat_templates"  # transformers' folder, for a tokenizer with several of them
_TEXTS = frozenset({".json", ".jinja", ".model", ".txt"})
_ADAPTERS = frozenset(form.adapter_files[-1] for form in FORMATS.values() if form.adapter_files)
_OF_WHOLE_MODEL = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")


@dataclass(frozen=True)
class Push:
    """A push that was prepared. `files` are on disk; `evaluation` is the content of `.eval_results/tuneoff.yaml`."""

    repository: str
    folder: Path
    files: tuple[str, ...]
    evaluation: str | None
    private: bool

    @property
    def paths(self) -> Iterator[tuple[str, int]]:
        """Path in the repository and bytes of everything that is sent."""
        for name in self.files:
            yield name, (self.folder / name).stat().st_size
        if self.evaluation is not None:
            yield EVAL_FILE, len(self.evaluation.encode())


def is_export(folder: Path) -> bool:
    """Whether `tuneoff export` wrote this folder."""
    return (folder / EXPORT_FILE).is_file()


def check_repository(name: str) -> None:
    """Raise `UserError` unless this is `owner/name` as the Hub allows it."""
    if not _REPOSITORY.fullmatch(name) or len(name) > _MOST_NAME or re.search(r"--|\.\.|\.git$", name):
        raise UserError(
            f"{name}: not a repository of the Hub; write owner/name, both in a to z, A to Z, 0 to 9, `-`, `_`, `.`, "
            "with no `-` or `.` at an end or twice in a row, and no `.git` at the end"
        )


def prepare_push(
    folder: Path,
    repository: str,
    *,
    dataset: str | None = None,
    task: str = "default",
    private: bool = True,
    with_texts: bool = False,
) -> Push:
    """What a push of an export would send. `dataset` and `task` name the test documents on the Hub, if they are there.

    Raises `UserError` for a name that the Hub does not allow, and for an export whose prompt holds documents unless
    `with_texts`.
    """
    check_repository(repository)
    content = read_export(folder)
    if content.holds_documents and not with_texts:
        raise UserError(
            f"{folder}: the prompt of {content.method} holds documents of the training data, and its card shows them; "
            "add --with-texts if they may be published"
        )
    names = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path == folder / _TEMPLATES and path.is_dir() and not path.is_symlink():
            continue
        if path.is_symlink() or not path.is_file() or name.parent not in (Path(), Path(_TEMPLATES)):
            raise UserError(f"{path}: not a file of an export; push the folder as `tuneoff export` wrote it")
        if path.suffix == ".py":
            raise UserError(f"{path}: code of the model, which is not pushed; export a model that needs none")
        if path.suffix in (".safetensors", ".gguf"):
            _check_weights(path, content.form)
        elif path.name not in (CARD, "Modelfile") and path.suffix not in _TEXTS:
            continue
        with open_regular(path) as stream:
            check_filled(str(path), stream.fileno())
        names.append(name.as_posix())
    if (folder / ADAPTER_CONFIG).exists():
        _check_adapter(folder)
    if dataset is not None:
        check_repository(dataset)
    return Push(repository, folder, tuple(names), evaluation(content, repository, dataset, task), private)


def _check_weights(path: Path, form: Form) -> None:
    """Raise `UserError` unless a file is one that holds the weights of such an export: of its name and its format."""
    is_gguf = path.suffix == ".gguf"
    is_known = is_gguf if form in ("gguf", "ollama") else path.name in _ADAPTERS
    if not (_OF_WHOLE_MODEL.fullmatch(path.name) if form == "merged" else is_known):
        raise UserError(f"{path}: not a file of an export --to {form}; push the folder as `tuneoff export` wrote it")
    if is_gguf:
        gguf_architecture(path)
    else:
        read_header(path)


def _check_adapter(folder: Path) -> None:
    """Raise `UserError` for an adapter whose settings load something else, or do not fit its weights."""
    settings = read_adapter_settings(folder)
    try:
        tensors = read_header(folder / ADAPTER_WEIGHTS)
    except FileNotFoundError as error:
        raise UserError(f"{folder}: an adapter without {ADAPTER_WEIGHTS}; export the run again") from error
    check_stored(folder / ADAPTER_CONFIG, settings, {name: tensor.shape for name, tensor in tensors.items()})


def evaluation(content: ExportFile, repository: str, dataset: str | None, task: str) -> str | None:
    """The file of the Hub's format for results of evaluations; None for data that are not known to be on the Hub.

    The format names a data set of the Hub and a task of it. The value is the export's own if it was checked.
    """
    import yaml  # type: ignore[import-untyped]

    study = content.study
    if study is None or (named := dataset or study.dataset) is None:
        return None
    revision = study.dataset_revision if dataset is None else None
    check, metric = content.check, metrics.METRICS[study.metric]
    value, documents = (check.export_mean, check.documents) if check else (study.score, study.documents)
    if value is None or not math.isfinite(value):
        return None
    notes = f"{metric.title} ({metric.unit}) on {documents} test documents; {content.method}, {study.signature or ''}"
    entry = {
        "dataset": {"id": named, "task_id": task} | ({"revision": revision} if revision else {}),
        "value": round(value, 4),
        "date": study.date,
        "source": {"url": f"https://huggingface.co/{repository}", "name": "Model card, by tuneoff"},
        "notes": notes.rstrip(", "),
    }
    return str(yaml.safe_dump([entry], sort_keys=False))


def send(push: Push) -> str:
    """Create the repository if it is missing, and commit all files at once. Returns its address.

    Raises `UserError` without a token or permission, `RunFailure` if the Hub cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    api = HfApi()
    additions = [CommitOperationAdd(name, str(push.folder / name)) for name in push.files]
    if push.evaluation is not None:
        additions.append(CommitOperationAdd(EVAL_FILE, push.evaluation.encode()))
    try:
        address = api.create_repo(push.repository, private=push.private, exist_ok=True)
        api.create_commit(push.repository, additions, commit_message="Model exported by tuneoff")
    except (LocalTokenNotFoundError, HfHubHTTPError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is None or status == 401:
            raise UserError(
                f"{push.repository}: the Hub knows no user; run `hf auth login`, or set HF_TOKEN"
            ) from error
        if status in (403, 404):
            raise UserError(
                f"{push.repository}: this user's token may not write there; use a token that may"
            ) from error
        raise RunFailure(f"{push.repository}: the Hub answered with {status}; try again later") from error
    except OfflineModeIsEnabled as error:
        raise UserError("HF_HUB_OFFLINE is set, so nothing can be sent; unset it") from error
    except Exception as error:  # of the package's own HTTP library, which is not ours to name
        raise RunFailure(
            f"{push.repository}: the Hub cannot be reached ({type(error).__name__}); try again later"
        ) from error
    return str(address)
