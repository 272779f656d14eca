"""What a study works on: its data, its models and the outputs of outside systems, checked before anything is run."""

import dataclasses
import functools
import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from tuneoff import data, metrics, models
from tuneoff.data import Dataset, Example
from tuneoff.data.files import local_path
from tuneoff.errors import UserError
from tuneoff.methods import method_class
from tuneoff.metrics import METRICS, RougeDialect
from tuneoff.prompts import AS_GIVEN, FIELDS_ONLY, Prompter, Prompting, apply_wording, field_names
from tuneoff.results import baselines
from tuneoff.results.run_record import Document
from tuneoff.results.study_state import DataFile
from tuneoff.spec import DataSpec, ModelSpec, StudySpec
from tuneoff.spec.run import is_path
from tuneoff.stats.power import FEWEST_GROUPS, Sensitivity, VarianceComponents, planned_sensitivity
from tuneoff.study import data_checks, planner
from tuneoff.study.duration import DataSizes
from tuneoff.study.planner import ContentHashes
from tuneoff.study.preflight import check_headers
from tuneoff.tokenization import tokenize_as_plain_text

# Of instructions with fields, the shortest: if one of all leaves room for a document, then one of these.
_MOST_PROMPTS_TO_CHECK = 1000


@dataclass(frozen=True)
class StudyInputs:
    """The inputs of a study, read and checked. `outside` maps row names to document ids to texts."""

    dataset: Dataset
    hashes: ContentHashes
    sizes: DataSizes
    """Examples and documents of the splits. Of the test documents, all count: a time limit may score fewer."""
    outside: Mapping[str, Mapping[str, str]]
    coverage: metrics.RougeCoverage
    data_cautions: tuple[str, ...] = ()
    """What makes the scores say less than they seem to."""
    few_documents: str | None = None
    """That there are too few test documents for a verdict. Not stored, because then the verdict says so itself."""

    @property
    def cautions(self) -> tuple[str, ...]:
        """What is known before training, from the most to the least serious."""
        return (() if self.few_documents is None else (self.few_documents,)) + self.data_cautions

    @property
    def counts(self) -> dict[str, int]:
        """Examples of each split."""
        return {
            "train": len(self.dataset.train),
            "validation": len(self.dataset.validation),
            "test": len(self.dataset.test),
        }

    def sensitivity(self, study: StudySpec) -> Sensitivity | None:
        """What the study will be able to detect on each model, for the typical spread of its metric.

        None if that is not known, if there is nothing to compare, or too few documents for a verdict.
        """
        documents = data.count_documents(self.dataset.test)
        spread = METRICS[study.metric].paired_sd
        varies = np.array([method_class(name).seeded for name in study.methods] + [False for _ in self.outside])
        if len(varies) < 2 or documents < FEWEST_GROUPS or spread is None:
            return None
        return planned_sensitivity(varies, documents, study.seeds, VarianceComponents.typical(varies, spread))

    def data_file(self, spec: DataSpec) -> DataFile:
        """What `data.json` holds."""
        return DataFile(
            description=self.dataset.description,
            counts=self.counts,
            cleaning=tuple(_without_folders(data.cleaning_report(self.dataset), spec)),
            columns=dict(self.dataset.columns),
            content_hash=self.dataset.content_hash,
            caution=self.coverage.caution,
            cautions=tuple(_without_folders(self.data_cautions, spec)),
        )


def load_inputs(study: StudySpec) -> StudyInputs:
    """Read the data, find the models, and hash both. Raises `UserError` for what can be known before a model loads."""
    adapting = planner.build_methods(study).values()
    dataset = data.load_dataset(study.data, field_names(study.prompt.instruction))
    sizes = DataSizes(
        train_examples=len(dataset.train),
        validation_examples=len(dataset.validation),
        validation_documents=data.count_documents(dataset.validation),
        test_examples=len(dataset.test),
        test_documents=data.count_documents(dataset.test),
    )
    if study.scored_documents:
        dataset = _with_scored_documents(dataset, max(study.scored_documents), study.data.split_seed)
    coverage = metrics.rouge_coverage(
        (example.references for example in dataset.test), RougeDialect.of(study.score.words)
    )
    if coverage.unscorable == coverage.examples:
        english = study.score.words == "english"
        way_out = "add --rouge-words unicode, which counts words of any script" if english else "correct the data"
        raise UserError(
            f"no summary of the test data has a word that ROUGE counts, so every text would score 0; {way_out}"
        )
    check_headers(study, adapting)
    ids = [example.id for example in dataset.test]
    outside = {name: baselines.read_outside(path, ids, study.data.encoding) for name, path in study.predictions.items()}

    @functools.cache
    def examples_at(fraction: float, seed: int) -> int:
        return len(data.take_fraction(dataset.train, fraction, seed))

    hashes = ContentHashes(
        dataset.content_hash,
        {model.name: models.model_content_hash(model) for model in study.models},
        train_examples=len(dataset.train),
        examples_at=examples_at,
    )
    return StudyInputs(
        dataset,
        hashes,
        sizes,
        {name: found.texts for name, found in outside.items()},
        coverage,
        data_cautions=(
            *_find_cautions(study, dataset, coverage),
            *(caution for found in outside.values() for caution in found.cautions),
        ),
        few_documents=_few_documents(study.data, dataset),
    )


def _with_scored_documents(dataset: Dataset, documents: int, seed: int) -> Dataset:
    """The data set with the test documents that final runs score. Its hash stays that of all: run ids depend on it."""
    test = data.take_documents(dataset.test, documents, seed)
    if len(test) == len(dataset.test):
        return dataset
    description = f"{dataset.description}; {documents} of the test documents are scored"
    return dataclasses.replace(dataset, test=test, description=description)


def _few_documents(spec: DataSpec, dataset: Dataset) -> str | None:
    examples = len(dataset.train) + len(dataset.validation) + len(dataset.test)
    held_out = spec.source is None and spec.test_file is None
    return data_checks.few_documents(
        data.count_documents(dataset.test), examples, held_out=held_out, limit=spec.max_test_documents
    )


def _find_cautions(study: StudySpec, dataset: Dataset, coverage: metrics.RougeCoverage) -> Iterator[str]:
    """What the data and the settings make of the scores, from the most to the least serious."""
    test = data_checks.sample(dataset.test)
    found = (
        data_checks.copied_references(test),
        data_checks.equal_references(test),
        *dict.fromkeys(_long_references(study, model, test) for model in study.models),
        coverage.caution,
        *dataset.cautions,
    )
    yield from (caution for caution in found if caution is not None)


def _long_references(study: StudySpec, model: ModelSpec, test: Sequence[Example]) -> str | None:
    limit = study.generate.max_new_tokens
    if not data_checks.may_be_longer(test, limit):
        return None
    tokenizer = models.load_tokenizer(model)
    texts = [text for example in test for text in example.references]
    lengths = iter([len(ids) for ids in tokenize_as_plain_text(tokenizer, texts)])
    shortest = [min(next(lengths) for _ in example.references) for example in test]
    return data_checks.long_references(shortest, limit, study.prompt.max_length)


def check_prompts(study: StudySpec, inputs: StudyInputs) -> None:
    """Fill every kind of prompt once, with each model's tokenizer.

    Raises `UserError` if an instruction names a column that does not exist or a prompt leaves no room for a document,
    which otherwise every single run would find out.
    """
    given = {method.prompting.wording for method in planner.build_methods(study).values()}
    wordings = [AS_GIVEN.wording, *sorted(given - {AS_GIVEN.wording, FIELDS_ONLY})]
    for model in study.models:
        tokenizer = models.load_tokenizer(model)
        for wording in wordings:
            prompting = Prompting(wording)
            prompter = Prompter(
                tokenizer,
                study.prompt,
                max_new_tokens=study.generate.max_new_tokens,
                reserved_tokens=planner.reserved_tokens(study),
                prompting=prompting,
            )
            instruction = apply_wording(study.prompt.instruction, prompting)
            prompter.encode(_prompts_to_check(inputs.dataset, instruction), with_target=False)


def _prompts_to_check(dataset: Dataset, instruction: str) -> list[Example]:
    """Examples with the shortest values that the fields of the instruction have, and with each set of missing fields.

    Without their documents and references, which do not matter here: fields can be different in each of many rows.
    """
    names = field_names(instruction)
    without: dict[tuple[bool, ...], Example] = {}
    shortest: dict[tuple[str | None, ...], Example] = {}
    for split in (dataset.train, dataset.validation, dataset.test):
        # Without a field all prompts are of one kind, so the first example is enough.
        for example in split if names else split[:1]:
            values = tuple(example.fields.get(name) for name in names)
            if values in shortest:
                continue
            light = dataclasses.replace(example, document="", references=())
            without.setdefault(tuple(value is None for value in values), light)
            shortest[values] = light
            if len(shortest) > 2 * _MOST_PROMPTS_TO_CHECK:
                shortest = dict(sorted(shortest.items(), key=_length_of_values)[:_MOST_PROMPTS_TO_CHECK])
    return [*without.values(), *shortest.values()]


def _length_of_values(kind: tuple[tuple[str | None, ...], Example]) -> int:
    return sum(len(value or "") for value in kind[0])


def document_row(example: Example, keep_texts: bool) -> Document:
    """A test example as the folder keeps it. Id and group always: resampling draws groups."""
    if not keep_texts:
        return Document(id=example.id, group=example.group, document="", references=())
    return Document(
        id=example.id,
        group=example.group,
        document=example.document,
        references=example.references,
        fields=dict(example.fields),
    )


def _without_folders(lines: Iterable[str], spec: DataSpec) -> list[str]:
    """Sentences that name files without the folders that were given, which may be private."""
    given = [*spec.files, *([spec.source] if spec.source is not None and is_path(spec.source) else ())]
    folders = {folder for name in given for folder in (_fixed_folder(name), _fixed_folder(str(local_path(name))))}
    known = sorted((folder for folder in folders if folder not in ("", ".", os.sep)), key=len, reverse=True)
    pattern = re.compile("|".join(rf"(?<![\w.{re.escape(os.sep)}-]){re.escape(folder + os.sep)}" for folder in known))
    return [pattern.sub("", line) if known else line for line in lines]


def _fixed_folder(name: str) -> str:
    """The folder of a file or folder, or that in which a pattern begins to match."""
    path = PurePath(name)
    while glob.has_magic(str(path.parent)):
        path = path.parent
    return str(path.parent)
