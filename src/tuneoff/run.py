"""One RunSpec in, one Record out: here, and only here, all parts come together."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import JsonValue
from torch import Tensor

from tuneoff import data, metrics, models, stopping
from tuneoff.cache import cache_key
from tuneoff.commit import commit
from tuneoff.engine.batching import row_lengths
from tuneoff.engine.checkpoint import Checkpoints
from tuneoff.engine.generation import GeneratedTokens, NotFinite, generate
from tuneoff.engine.kernels import use_fast_paths
from tuneoff.engine.parallel import has_one_worker
from tuneoff.engine.precision import FORMAT_OF, NumberFormat, choose_dtype, format_to_keep, pick_device
from tuneoff.engine.process_group import ALONE, ProcessGroup, joined
from tuneoff.engine.trainer import Diverged, Trainer, validation_loss
from tuneoff.errors import UserError
from tuneoff.export.model_card import write_model_card
from tuneoff.methods import AdaptedModel, Method, build
from tuneoff.methods.embedding_alignment import measure_alignment
from tuneoff.model_files import check_files
from tuneoff.model_weights import BrokenWeights, first_error_line
from tuneoff.profiling import Meter, describe_machine
from tuneoff.prompts import Encoded, EncodedRows, OverlongExample, Prompter, field_names, fill_fields
from tuneoff.results.events import Event, EventWriter, Finished, Generated, Note, Validated
from tuneoff.results.failures import failure_of
from tuneoff.results.run_dir import RunDir, StoredRun, settle_files
from tuneoff.results.run_record import (
    NUMERICS_VERSION,
    Artefact,
    Curve,
    DataProvenance,
    Failure,
    ModelProvenance,
    Prediction,
    Provenance,
    Record,
    RunDetails,
    Status,
    ValidationPoint,
)
from tuneoff.row_cache import RowCache
from tuneoff.saved_tensors import saving
from tuneoff.spec import TIMED_TEXTS, RunSpec
from tuneoff.temporary_folder import temporary_folder

if TYPE_CHECKING:
    from tuneoff.models import BaseModel

# A larger fraction of truncated outputs or documents deserves a warning.
_NOTABLE_FRACTION = 0.2
_OTHER_FORMAT = "try --precision fp32, or another model"


def run(
    spec: RunSpec,
    folder: Path,
    run_id: str,
    name: str,
    *,
    parts: int = 1,
    keep_texts: bool = True,
    number_format: NumberFormat | None = None,
    group: Mapping[str, Any] | None = None,
) -> Record:
    """Carry out `spec`, write record, predictions, events and artefact into `folder`, and return the record.

    An error becomes a record with a status and a reason. Only what ends the process is raised: `Stopped` if it was
    asked to end, after the training was saved. `parts`: number of parts that each micro-batch is computed in, above 1
    for a run that the system has killed because memory ran out. `keep_texts=False`: no generated text, and no prompt
    that was made from documents, is ever written there. `number_format`: that of the study, for a model whose precision
    is `auto`; None: it is decided here. `group`: the processes that train together, as the arguments of `joined`; this
    is the first of them, and the others call `help_to_train`.
    """
    run_dir = RunDir(folder)
    folder.mkdir(parents=True, exist_ok=True)
    run_dir.events.unlink(missing_ok=True)  # of an attempt that was interrupted
    started = _now()
    with EventWriter(run_dir.events) as events, Meter(events=events.append) as meter:
        work = _Work(spec, run_id, run_dir, meter, events.append)
        work.parts = parts
        work.keep_texts = keep_texts
        work.number_format = number_format
        status: Status = "finished"
        failure = None
        with contextlib.ExitStack() as ending:
            try:
                if group is not None:
                    work.group = ending.enter_context(_joined(group))
                work.do()
                ending.enter_context(stopping.stop_deferred())  # all is done: a request to stop waits for the record
            except Diverged as error:
                work.curve = error.curve
                status, failure = "diverged", Failure(type="Diverged", message=str(error))
            except NotFinite as error:
                step = work.curve.best_step or 0
                message = f"{error} after step {step}; {_OTHER_FORMAT}"
                status, failure = "diverged", Failure(type="Diverged", message=message)
            except BrokenWeights as error:
                status, failure = "diverged", Failure(type="Diverged", message=f"{error} (before step 1)")
            except UserError as error:
                status, failure = "failed", Failure(type="UserError", message=str(error))
            except stopping.Stopped:
                work.save_training()
                raise
            except Exception as error:
                status, failure = "failed", failure_of(error, meter.last_phase)
            ending.enter_context(stopping.stop_deferred())
            record = Record(
                run_id=run_id,
                name=name,
                status=status,
                failure=failure,
                spec=spec.without_paths(),
                started_at=started,
                finished_at=_now(),
                curve=work.curve,
                scores=work.scores,
                signature=metrics.rouge_signature(metrics.RougeDialect.of(spec.score.words)),
                resources=meter.resources(),
                trainable_parameters=work.trainable_parameters,
                total_parameters=work.total_parameters,
                artefact=work.artefact,
                notes=tuple(work.notes),
                details=work.details,
                provenance=work.provenance,
            )
            run_dir.write_record(record)
            if record.status != "failed":  # a cause such as a full disk may be gone when the run is repeated
                work.checkpoints.delete()
    with EventWriter(run_dir.events) as events:  # opened again, after the last sample, so that this is the last event
        events.append(Finished(status=record.status))
    return record


def help_to_train(
    spec: RunSpec,
    folder: Path,
    run_id: str,
    _name: str,
    *,
    parts: int = 1,
    keep_texts: bool = True,  # noqa: ARG001 - it writes none
    number_format: NumberFormat | None = None,
    group: Mapping[str, Any],
) -> None:
    """Train together with the process that calls `run` with the same arguments, and write nothing."""
    with Meter() as meter, _joined(group) as joined_group:
        work = _Work(spec, run_id, RunDir(folder), meter, lambda _event: None)
        work.parts, work.number_format, work.group = parts, number_format, joined_group
        work.do()


@contextlib.contextmanager
def _joined(group: Mapping[str, Any]) -> Iterator[ProcessGroup]:
    """Join the processes of a run, each with its share of the processors."""
    torch.set_num_threads(group["threads"])
    with joined(group["rank"], group["size"], group["meeting"]) as found:
        yield found


class _Work:
    """The steps of one run, and what is known so far: a run that fails half-way still records that."""

    def __init__(
        self, spec: RunSpec, run_id: str, run_dir: RunDir, meter: Meter, emit: Callable[[Event], None]
    ) -> None:
        self.spec, self.run_id, self.run_dir, self.meter, self.emit = spec, run_id, run_dir, meter, emit
        self.parts = 1
        self.keep_texts = True
        self.number_format: NumberFormat | None = None
        self.group = ALONE
        self._one_worker = False
        self.curve = Curve()
        self.scores: dict[str, float | None] = {}
        self.notes: list[str] = []
        self.details = RunDetails()
        self.provenance = Provenance()
        self.artefact: Artefact | None = None
        self.trainable_parameters: int | None = None
        self.total_parameters: int | None = None
        self.checkpoints = Checkpoints(run_dir.path)  # keeps no state before device and number format are known
        self.trainer: Trainer | None = None

    def save_training(self) -> None:
        """Write a checkpoint of the trained weights, for a run that is stopped after its training."""
        if self.trainer is not None:
            self.trainer.save_result()

    def do(self) -> None:
        spec = self.spec
        if self.parts > 1:
            self._note(f"memory ran out in an earlier attempt; micro-batches are computed in {self.parts} parts")
        with self.meter.phase("load"):
            method = build(spec.method.name, spec.method.hyperparameters)
            device = pick_device()
            auto = spec.model.precision == "auto"
            dtype = choose_dtype((self.number_format if auto else None) or spec.model.precision, device)
            self._one_worker = device.type == "cpu" and has_one_worker(device, dtype)
            self._report(device=str(device), dtype=str(dtype).removeprefix("torch."))
            dataset = data.load_dataset(spec.data, field_names(spec.prompt.instruction))
            base = models.load_model(spec.model, device, dtype)
            self._report(kernels=use_fast_paths(base.model, device))
            self.provenance = _provenance(spec, dataset)
            # A fraction applies to validation data too: choosing on the whole split would use more data.
            known, held_out = (
                data.take_fraction(split, spec.fraction, spec.seed) for split in (dataset.train, dataset.validation)
            )
            adapted = method.adapt(base, known, spec.seed)
            for note in adapted.notes:
                self._note(note)
            prompter = _prompter(spec, base, adapted)
            self._report(template=prompter.template)
            train = self._encode(prompter, known, "train") if method.trains else []
            validation = self._encode(prompter, held_out, "validation")
            self._count_parameters(adapted)
            self._record_embedding_position(adapted, base, "first")
        if spec.role == "timing":
            validation = validation[:TIMED_TEXTS]
        if method.trains:
            self._fit(adapted, train, validation, base)
            if not self.group.leads:
                return
        else:
            self._validate(adapted, validation, base)
        if spec.role == "trial":
            if spec.writes_validation:
                written = self._write(adapted, base, [dataclasses.replace(row, target=()) for row in validation])
                self._score(prompter, held_out, written)
            return
        if spec.role == "timing":
            self._write(adapted, base, [dataclasses.replace(row, target=()) for row in validation])
            return
        self._save(method, adapted, prompter)
        # The test split is first read here, after the best checkpoint was chosen on validation data.
        test = dataset.test
        if spec.scored_documents is not None:
            test = data.take_documents(test, spec.scored_documents, spec.data.split_seed)
        written = self._write(adapted, base, lambda: self._encode(prompter, test, "test"))
        self._score(prompter, test, written)

    def _write(
        self, adapted: AdaptedModel, base: BaseModel, prompts: Sequence[Encoded] | Callable[[], Sequence[Encoded]]
    ) -> list[GeneratedTokens]:
        with self.meter.phase("generate") as generating:
            adapted.merge()
            self._report(**adapted.details)
            rows = prompts() if callable(prompts) else prompts
            written = generate(
                adapted,
                rows,
                self.spec.generate,
                stop_ids=base.stop_ids,
                pad_id=base.pad_id,
                device=base.device,
                progress=lambda done: self.emit(Generated(done=done, total=len(rows), seconds=self.meter.elapsed())),
                note=self._note,
                parts=self.parts,
            )
            generating.tokens += sum(len(row.prompt) for row in rows) + sum(len(row.token_ids) for row in written)
        return written

    def _report(self, **details: JsonValue) -> None:
        """Add facts to the record's details; checked, so that a method of another package cannot break the record."""
        self.details = RunDetails.model_validate(self.details.model_dump() | details)

    def _note(self, text: str) -> None:
        self.notes.append(text)
        self.emit(Note(text=text))

    def _encode(self, prompter: Prompter, examples: Sequence[data.Example], split: str) -> EncodedRows:
        rows, too_long = prompter.encode(examples, with_target=split != "test")
        self._report_lengths(rows, too_long, split)
        if not rows:
            raise UserError(f"no {split} example fits in --max-length {self.spec.prompt.max_length}; raise it")
        return rows

    def _report_lengths(self, rows: EncodedRows, too_long: Sequence[OverlongExample], split: str) -> None:
        cut = int((rows.truncated_tokens > 0).sum())
        share = cut / len(rows) if rows else 0.0
        self._report(**{f"{split}_cut_share": share, f"{split}_examples": len(rows)})
        if share > _NOTABLE_FRACTION:
            most = self.spec.prompt.max_length
            self._note(f"{100 * share:.0f} % of the {split} documents were truncated to --max-length {most}")
        if too_long:
            self._note(
                f"{len(too_long)} {split} examples were left out: instruction and target leave no room for a document "
                f"(first: {too_long[0].id}, {too_long[0].tokens} tokens)"
            )

    def _count_parameters(self, adapted: AdaptedModel) -> None:
        self.trainable_parameters = sum(tensor.numel() for tensor in adapted.state().values())
        own = {id(parameter): parameter.numel() for parameter in adapted.model.parameters()}
        own |= {id(tensor): tensor.numel() for tensor in adapted.state().values()}
        self.total_parameters = sum(own.values())
        self._report(**adapted.details)

    def _record_embedding_position(self, adapted: AdaptedModel, base: BaseModel, when: str) -> None:
        """Keys and values of layers (prefix tuning) are not embeddings, so they have no position among them."""
        prefix = adapted.prefix()
        tokens = adapted.suffix() if prefix is None else prefix
        if isinstance(tokens, Tensor):
            embedding = base.model.get_input_embeddings()
            position = measure_alignment(tokens, embedding, embedding.num_embeddings)._asdict()
            self._report(**{f"{when}_place": position})

    def _fit(
        self,
        adapted: AdaptedModel,
        train: Sequence[Encoded],
        validation: Sequence[Encoded],
        base: BaseModel,
    ) -> None:
        rates = self.spec.method.hyperparameters
        if self.spec.role != "timing":
            writes = self.group.leads
            self.checkpoints = Checkpoints(self.run_dir.path, self._identity(), note=self._note, writes=writes)
        if self.group.size > 1:
            self._note(f"{self.group.size} processes trained; processor time and memory are those of the first one")
        before = _norms(adapted)
        self.trainer = Trainer(
            adapted,
            train,
            validation,
            self.spec.train,
            learning_rate=_number(rates["learning_rate"]),
            weight_decay=_number(rates["weight_decay"]),
            seed=self.spec.seed,
            pad_id=base.pad_id,
            device=base.device,
            checkpoints=self.checkpoints,
            meter=self.meter,
            emit=self.emit,
            prune_above=self.spec.cut_above,
            parts=self.parts,
            # A timing run measures what a training costs that finds nothing in the cache.
            open_rows=None if self.spec.role == "timing" or not self.group.leads else self._open_rows,
            group=self.group,
        )
        self.curve = self.trainer.fit()
        if self.trainer.reused_seconds:
            self._report(reused_seconds=self.trainer.reused_seconds)
        moved = sum(norm != before[name] for name, norm in _norms(adapted).items())
        self._report(moved_share=moved / max(1, len(before)))
        self._record_embedding_position(adapted, base, "trained")

    def _open_rows(self, frozen_blocks: int) -> RowCache:
        """The cache of the states after `frozen_blocks` blocks of this run's model, on this machine."""
        identity = {name: value for name, value in self._identity().items() if name != "run"}
        model, machine = self.provenance.model, self.provenance.machine
        return RowCache(
            cache_key(
                model=None if model is None else model.content_hash,
                blocks=frozen_blocks,
                cpu=None if machine is None else machine.cpu,
                threads=torch.get_num_threads(),
                **identity,
            )
        )

    def _identity(self) -> dict[str, str]:
        """What the numbers of a training depend on: a state of another identity is not used."""
        where = {"number format": self.details.dtype, "device": self.details.device, "kernels": self.details.kernels}
        return {
            "run": self.run_id,
            **{key: str(value) for key, value in where.items()},
            "python": platform.python_version(),
            **models.versions(),
            "numerics version": str(NUMERICS_VERSION),
            **({"micro-batches": "one after the other"} if self._one_worker else {}),
        }

    def _validate(self, adapted: AdaptedModel, rows: Sequence[Encoded], base: BaseModel) -> None:
        with self.meter.phase("evaluate") as evaluating:
            tokens = self.spec.train.micro_batch_tokens
            loss = validation_loss(
                adapted, rows, pad_id=base.pad_id, device=base.device, tokens=tokens, note=self._note
            )
            evaluating.tokens += sum(row_lengths(rows))
        if not math.isfinite(loss):
            raise Diverged(0, Curve(), "the validation loss", _OTHER_FORMAT)
        seconds = self.meter.elapsed()
        self.emit(Validated(step=0, epoch=0.0, loss=loss, best=True, seconds=seconds))
        point = ValidationPoint(step=0, epoch=0.0, seconds=seconds, loss=loss)
        self.curve = Curve(validation=(point,), best_step=0, best_epoch=0.0, best_validation_loss=loss)

    def _save(self, method: Method, adapted: AdaptedModel, prompter: Prompter) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(stopping.stop_deferred())
            folder = self.run_dir.new_artefact()
            if adapted.prompting.shots and not self.keep_texts:  # measured elsewhere, because it holds documents
                folder = stack.enter_context(temporary_folder())
            with saving(folder):
                kind = adapted.save(folder)
            write_model_card(folder, self.spec, method, kind, prompter)
            files = settle_files(folder)
            self.artefact = Artefact(
                format=kind,
                bytes=sum(path.stat().st_size for path in files),
                files=tuple(path.relative_to(folder).as_posix() for path in files),
            )

    def _score(self, prompter: Prompter, examples: Sequence[data.Example], written: Sequence[GeneratedTokens]) -> None:
        indices = {example.id: index for index, example in enumerate(examples)}
        dialect, predictions = metrics.RougeDialect.of(self.spec.score.words), []
        for row in written:
            example, text = examples[indices[row.id]], prompter.decode(row.token_ids)
            scores = metrics.score(text, example.document, example.references, dialect, stopped=row.stopped)
            predictions.append(
                Prediction(id=row.id, text=text, scores=scores, tokens=len(row.token_ids), stopped=row.stopped)
            )
        if self.spec.prompt.instruction.strip():
            repeated = sum(self._repeats_instruction(row.text, examples[indices[row.id]]) for row in predictions)
            self._report(instruction_share=repeated / max(1, len(predictions)))
        self.run_dir.write_predictions(row if self.keep_texts else row.without_text() for row in predictions)
        self.scores = metrics.means(row.scores for row in predictions)
        for metric, words in (("unstopped", "never stopped by themselves"), ("empty", "are empty")):
            share = self.scores.get(metric)
            if share is not None and share > _NOTABLE_FRACTION:
                self._note(f"{100 * share:.0f} % of the outputs {words}")

    def _repeats_instruction(self, text: str, example: data.Example) -> bool:
        return _plain(fill_fields(self.spec.prompt.instruction, example.fields)) in _plain(text)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _norms(adapted: AdaptedModel) -> dict[str, float]:
    """Norm of every trainable tensor: shows whether it changed, without a copy of it.

    Computed on the CPU, because Apple's accelerator has no double precision.
    """
    return {name: float(tensor.detach().cpu().double().norm()) for name, tensor in adapted.state().items()}


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)


def _prompter(spec: RunSpec, base: BaseModel, adapted: AdaptedModel) -> Prompter:
    return Prompter(
        base.tokenizer,
        spec.prompt,
        max_new_tokens=spec.generate.max_new_tokens,
        reserved_tokens=spec.reserved_tokens,
        prompting=adapted.prompting,
        context=getattr(base.model.config.get_text_config(), "max_position_embeddings", None),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _provenance(spec: RunSpec, dataset: data.Dataset) -> Provenance:
    return Provenance(
        versions={"python": platform.python_version(), **models.versions()},
        machine=describe_machine(),
        commit=commit(),
        numerics_version=NUMERICS_VERSION,
        data=DataProvenance(description=dataset.description, content_hash=dataset.content_hash),
        model=ModelProvenance(name=spec.model.name, content_hash=models.model_content_hash(spec.model)),
    )


def load_adapted(run: StoredRun, *, trust_remote_code: bool = False) -> Generator:
    """The tuned model of a finished run, ready to generate.

    Raises `UserError` as `check_usable` does.
    """
    check_usable(run, trust_remote_code=trust_remote_code)
    spec = run.record.spec
    device = pick_device()
    restored = restore_run(run, device, _dtype_of(run.record, device))
    restored.adapted.merge()
    use_fast_paths(restored.adapted.model, device)  # as the run did
    restored.adapted.train_mode(False)
    unknown = f"{run.dir.path}: its record holds no digest of the model, so whether the weights changed is unknown"
    notes = (unknown,) if run.record.provenance.model is None else ()
    return Generator(restored.adapted, restored.base, restored.prompter, spec, notes)


def _dtype_of(record: Record, device: torch.device) -> torch.dtype:
    """The dtype that the run generated in, unless this processor is slow in it."""
    known = FORMAT_OF.get(record.details.dtype) if record.spec.model.precision == "auto" else None
    if known is None:
        return choose_dtype(record.spec.model.precision, device)
    return choose_dtype(format_to_keep(known, on_cpu=device.type == "cpu"), device)


def check_usable(run: StoredRun, *, trust_remote_code: bool = False) -> None:
    """Raise `UserError` for a run that cannot be used, before any model is loaded.

    A record may come from a stranger, so code of the model runs only with `trust_remote_code`, whatever the record
    says.
    """
    record, run_dir = run.record, run.dir
    if record.spec.role != "final":
        raise UserError(f"{run_dir.path}: a {record.spec.role} run leaves nothing to use; name a final run")
    if record.status != "finished":
        raise UserError(f"{run_dir.path}: this run is {record.status}, so there is nothing to use; run it again")
    kept = () if record.artefact is None else record.artefact.files
    for file in kept:
        if file != "README.md" and not (run_dir.artefact / file).exists():
            if record.artefact is not None and record.artefact.format == "prompt":
                raise UserError(
                    f"{run_dir.path}: artefact/{file} is missing because it holds documents and the study keeps none "
                    "(--no-texts); run it without --no-texts in another folder, or use another method"
                )
            raise UserError(
                f"{run_dir.path}: artefact/{file} is missing, perhaps because records were copied without their "
                "weights; copy artefact/ from where the run was made, or delete this folder and run the study again"
            )
    check_files(run_dir.artefact)
    run_dir.check_artefact()
    spec = record.spec
    if spec.model.trust_remote_code and not trust_remote_code:
        raise UserError(
            f"{run_dir.path}: its record asks to run code that comes with the model {spec.model.name}, which a record "
            "cannot allow; add --trust-remote-code (in Python: trust_remote_code=True) if you trust its authors"
        )
    scored = record.provenance.model
    if scored is not None and scored.content_hash != models.model_content_hash(spec.model):
        raise UserError(
            f"{run_dir.path}: the files of {spec.model.name} are not those that this run was scored with, so its "
            "scores say nothing about them; restore that model, or run the study again in another folder"
        )


@dataclasses.dataclass(frozen=True)
class RestoredRun:
    """The model of a run, its base and its prompts, as they were after training: nothing is merged yet."""

    adapted: AdaptedModel
    base: BaseModel
    prompter: Prompter


def restore_run(run: StoredRun, device: torch.device, dtype: torch.dtype) -> RestoredRun:
    """Load what a usable run left. Raises `UserError` for files that cannot be loaded."""
    spec = run.record.spec
    base = models.load_model(spec.model, device, dtype)
    adapted = _restored(build(spec.method.name, spec.method.hyperparameters), base, run.dir.artefact)
    return RestoredRun(adapted, base, _prompter(spec, base, adapted))


def _restored(method: Method, base: BaseModel, artefact: Path) -> AdaptedModel:
    """The adapted model in an artefact folder. Raises `UserError` for files that do not belong to the base."""
    try:
        return method.restore(base, artefact)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # the files may hold anything, and libraries trust their shapes and types
        raise UserError(
            f"{artefact}: cannot be loaded into {base.name} ({first_error_line(error)}); copy artefact/ again, or "
            "repeat the run"
        ) from error


@dataclasses.dataclass(frozen=True)
class NewText:
    """The text for a new document. `text` is None if the fields of the document leave no room for it in the prompt."""

    id: str
    text: str | None
    tokens_read: int = 0  # of the document
    tokens: int = 0
    parts: int = 0  # that the document was read in, if it was too long for one prompt

    @property
    def is_cut(self) -> bool:
        """Whether the end of the document was not read."""
        return self.tokens_read < self.tokens

    @property
    def cut_sentence(self) -> str:
        """How much of the document was read."""
        return (
            f"only the first {self.tokens_read:,} of {self.tokens:,} tokens were read (the run's --max-length); what "
            "follows has no effect on the text"
        )


@dataclasses.dataclass(frozen=True)
class Generator:
    """A tuned model that writes texts for new documents, as its run did."""

    adapted: AdaptedModel
    base: BaseModel
    prompter: Prompter
    spec: RunSpec
    notes: tuple[str, ...] = ()  # what could not be checked

    def write(self, documents: Sequence[data.Example]) -> Iterator[NewText]:
        """One text for each document, in order. References are ignored."""
        settings = self.spec.generate
        for start in range(0, len(documents), settings.batch_size):
            batch = documents[start : start + settings.batch_size]
            prompts, too_long = self.prompter.encode(batch, with_target=False)
            rows = generate(
                self.adapted,
                prompts,
                settings,
                stop_ids=self.base.stop_ids,
                pad_id=self.base.pad_id,
                device=self.base.device,
            )
            texts = iter(zip(rows, prompts.document_tokens, prompts.truncated_tokens, strict=True))
            no_room = {one.id for one in too_long}
            for document in batch:
                if document.id in no_room:
                    yield NewText(document.id, None)
                    continue
                row, read, cut = next(texts)
                yield NewText(document.id, self.prompter.decode(row.token_ids), int(read), int(read + cut))

    def generate(self, documents: Sequence[str]) -> list[str]:
        """One text for each document; warns of documents that are not read to their end.

        Raises `UserError` if the run's instruction needs more than a document.
        """
        if isinstance(documents, str):
            raise UserError("generate takes a list of documents; write generate([document])")
        needed = field_names(self.spec.prompt.instruction)
        if needed:
            raise UserError(
                f"the run's instruction needs {', '.join(needed)} for each document; use `tuneoff summarize --field`"
            )
        examples = [
            data.Example(id=str(number), document=text.strip(), references=(), group="")
            for number, text in enumerate(documents, 1)
        ]
        if empty := [example.id for example in examples if not example.document]:
            raise UserError(f"document {empty[0]} of {len(examples)} is empty; leave it out")
        texts = []
        for new in self.write(examples):
            if new.is_cut:
                warnings.warn(f"document {new.id}: {new.cut_sentence}", stacklevel=2)
            texts.append(new.text or "")
        return texts
