"""Suggests a study for a data set: instruction, lengths, methods, test documents, each with the reason. `tuneoff init`.

A suggestion is a beginning that a person reads and changes. What the person has set is left alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tuneoff.data import ColumnsTaken, Dataset, Example, Split, cleaning_report, count_documents, load_dataset
from tuneoff.data.languages import WITHOUT_SPACES
from tuneoff.data.likely_columns import WANTED_NAMES, wanted_name
from tuneoff.errors import UserError
from tuneoff.methods import build, method_class
from tuneoff.prompts import field_names
from tuneoff.spec import StudySpec
from tuneoff.stats.power import FEWEST_GROUPS
from tuneoff.study import planner, resources
from tuneoff.study.allocation import FLOOR_STEPS
from tuneoff.study.data_checks import sample
from tuneoff.study.data_facts import DataFacts, look_at_texts
from tuneoff.study.inspection import InspectedModel
from tuneoff.study.task_words import follow_task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

METHODS = ("zero_shot", "few_shot", "soft_prompt", "lora", "full")
SEEDS, TRIALS = 3, 2
TEST_DOCUMENTS = 100  # with fewer, only large differences are detected
_LARGEST_SHARE = 0.3
_MOST_EPOCHS = 5
_MOST_LENGTH = 1024  # tokens: the time of a step grows with them
_LENGTH_STEP, _NEW_TOKENS_STEP = 64, 16
# Names of columns of documents that say what a document is.
_DOCUMENTS = ("article", "dialogue", "email", "paper", "abstract", "review", "question", "message", "report")
_ANSWERS = ("completion", "output", "response", "messages.assistant", "conversations.assistant")
_NUMBERS = ("", "one", "two", "three", "four", "five")
_MOST_LABELS = 8


@dataclass(frozen=True)
class Suggestion:
    """A study, and why its settings are what they are: name of the setting -> a sentence."""

    study: StudySpec
    facts: DataFacts
    """With the settings of the study."""
    columns: Mapping[Split, ColumnsTaken] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    """Usual methods that are left out, and why."""
    cleaning: tuple[str, ...] = ()
    """What became of rows that could not be used as they are."""


def suggest(
    study: StudySpec, dataset: Dataset, tokenizer: PreTrainedTokenizerBase, given: Collection[str]
) -> Suggestion:
    """A suggestion for the only model of `study`. `given`: settings that the user has made, by the names of flags.

    The words that follow from the instruction are not set, because they follow when the file is read. Raises
    `UserError` for a model that cannot be used.
    """
    why: dict[str, str] = {}
    if (share := _test_share(study, dataset)) is not None and "test_share" not in given:
        study = study.model_copy(update={"data": study.data.model_copy(update={"test_share": share})})
        dataset = load_dataset(study.data, field_names(study.prompt.instruction))  # quick: so few documents
        why["test_share"] = "more test documents show smaller differences"
    facts = look_at_texts(study, dataset, tokenizer)
    change: dict[str, Any] = {}
    if "instruction" not in given:
        instruction, why["instruction"] = _instruction(facts, dataset)
        change["prompt"] = study.prompt.model_copy(update={"instruction": instruction})
    if "rouge_words" not in given and (words := _rouge_words(facts)) is not None:
        change["score"] = study.score.model_copy(update={"words": words})
        why["rouge_words"] = f"the wanted texts are in {facts.wanted_language}"
    model = InspectedModel(study.models[0])
    if "max_new_tokens" not in given:
        tokens, why["max_new_tokens"] = _new_tokens(
            facts, study.prompt.max_length if "max_length" in given else None, model
        )
        change["generate"] = study.generate.model_copy(update={"max_new_tokens": tokens})
    if not {"epochs", "max_steps", "min_steps"} & set(given):
        epochs = _epochs(study, dataset)
        if epochs > 1:
            change["train"] = study.train.model_copy(update={"epochs": float(epochs)})
            why["epochs"] = f"one epoch has fewer than {FLOOR_STEPS} steps"
    if "seeds" not in given and not study.until_settled:  # that has a number of seeds of its own
        change["seeds"] = SEEDS
        why["seeds"] = "trainings of one method differ; a single seed says nothing about the method"
    if "trials" not in given:
        change["trials"] = TRIALS
        why["trials"] = "settings that each method tries, and a refinement trial; a time limit may reduce them"
    left_out: dict[str, str] = {}
    if "methods" not in given:
        left_out = dict(_left_out(model, METHODS))
        chosen = [name for name in METHODS if name not in left_out]
        if "full" in left_out and _problem(model, "last_layers") is None:
            chosen.append("last_layers")
        change["methods"] = tuple(chosen)
    study = study.model_copy(update=change)
    if "max_length" not in given:
        study, why["max_length"] = _with_length(study, dataset, tokenizer, model)
    if "methods" not in given and (reason := _too_long_with_shots(study, model)) is not None:
        left_out["few_shot"] = reason
        study = study.model_copy(update={"methods": tuple(name for name in study.methods if name != "few_shot")})
    facts = look_at_texts(follow_task(study), dataset, tokenizer)
    return Suggestion(study, facts, dataset.columns, why, left_out, tuple(cleaning_report(dataset)))


def _with_length(
    study: StudySpec, dataset: Dataset, tokenizer: PreTrainedTokenizerBase, model: InspectedModel
) -> tuple[StudySpec, str]:
    """The study with room for 95 % of the documents, as far as that is affordable."""
    roomy = follow_task(study)
    facts = look_at_texts(_with_max_length(roomy, 10**6), dataset, tokenizer)
    target = max(facts.wanted.most + 1, study.generate.max_new_tokens)
    needed = _rounded((facts.frame or 0) + planner.reserved_tokens(roomy) + facts.documents.most + target, _LENGTH_STEP)
    length = min(needed, _longest_prompt(model))
    if length == needed:
        why = f"95 % of the documents have at most {facts.documents.most:,} tokens, and fit with prompt and text"
    elif length == model.positions:
        why = f"all that the model has positions for; 95 % of the documents would fit into {needed:,}"
    else:
        why = f"longer prompts take more time; 95 % of the documents would fit into {needed:,}"
    return _with_max_length(study, length), why


def _with_max_length(study: StudySpec, length: int) -> StudySpec:
    return study.model_copy(update={"prompt": study.prompt.model_copy(update={"max_length": length})})


def _longest_prompt(model: InspectedModel) -> int:
    """Tokens of the longest prompt with its text that is suggested."""
    return _MOST_LENGTH if model.positions is None else min(_MOST_LENGTH, model.positions)


def _new_tokens(facts: DataFacts, max_length: int | None, model: InspectedModel) -> tuple[int, str]:
    """Tokens of a new text, and why: as the wanted texts have, but so that half of the prompt is for the document."""
    needed = _rounded(facts.wanted.most + 1, _NEW_TOKENS_STEP)
    half = max(1, (max_length or _longest_prompt(model)) // 2)
    why = f"95 % of the wanted texts have at most {facts.wanted.most:,} tokens"
    return (needed, why) if needed <= half else (half, f"{why}, but documents need room too; see max_length")


def _too_long_with_shots(study: StudySpec, model: InspectedModel) -> str | None:
    """Why few-shot prompts may not fit into the positions of the model; None if they do."""
    if "few_shot" not in study.methods or model.positions is None:
        return None
    shots = build("few_shot", {}).hyperparameters["shots"]
    assert isinstance(shots, int)
    needed = (1 + shots) * study.prompt.max_length
    if needed <= model.positions:
        return None
    return f"prompts with {shots} examples may need {needed:,} tokens, and the model has {model.positions:,} positions"


def _rounded(number: int, step: int) -> int:
    return step * math.ceil(number / step)


def _rouge_words(facts: DataFacts) -> str | None:
    """Of another language than English, what ROUGE should count."""
    if facts.wanted_language in (None, "English"):
        return None
    return "characters" if facts.wanted_language in WITHOUT_SPACES else "unicode"


def _test_share(study: StudySpec, dataset: Dataset) -> float | None:
    """A larger fraction for the test, if it is held out and the default gives few documents."""
    if study.data.source is not None or study.data.test_file is not None or study.data.folds is not None:
        return None
    documents = sum(count_documents(split) for split in (dataset.train, dataset.validation, dataset.test))
    share = max(min(_LARGEST_SHARE, TEST_DOCUMENTS / documents), min(0.5, FEWEST_GROUPS / documents))
    return math.floor(100 * share) / 100 if share > 0.11 else None


def _epochs(study: StudySpec, dataset: Dataset) -> int:
    """As many epochs as have the steps of the smallest study that shows something, but not many."""
    return min(_MOST_EPOCHS, math.ceil(FLOOR_STEPS * study.train.batch_size / len(dataset.train)))


def _left_out(model: InspectedModel, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        if (problem := _problem(model, name)) is not None:
            yield name, problem


def _problem(model: InspectedModel, name: str) -> str | None:
    """Why a method cannot adapt a model on this machine; None if it can, as far as that is known."""
    try:
        there = resources.machine_memory()
        if there is not None:
            resources.check_memory(model.spec, resources.count_parameters(model.spec), name, there)
        model.check(method_class(name)())
    except UserError as error:
        return str(error)
    return None


def _instruction(facts: DataFacts, dataset: Dataset) -> tuple[str, str]:
    """What the model is asked to do, and why that is suggested."""
    taken = dataset.columns.get("train")
    columns = [taken.document, *taken.summary] if taken is not None else []
    document, *wanted = [wanted_name(name) for name in columns] or ["", ""]
    noun = next((name for name in _DOCUMENTS if name == document.rstrip("s")), "text")
    language = facts.wanted_language
    other = language is not None and facts.language is not None and language != facts.language
    if other:
        return f"Translate the following {noun} into {language}.", "documents and wanted texts differ in language"
    examples = sample(dataset.train)
    suffix = "" if language in (None, "English") else f" Write in {language}."
    if (labels := _labels(examples)) is not None:
        listed = ", ".join(labels)
        return f"Choose the label of the following {noun}: {listed}.", "the wanted texts are a few labels"
    named = next((WANTED_NAMES[name] for name in wanted if name in WANTED_NAMES), None)
    if named is not None:
        article = "an" if named[0] in "aeiou" else "a"
        return f"Write {article} {named} for the following {noun}.{suffix}", f"the column is named {wanted[0]!r}"
    if set(wanted) & set(_ANSWERS):
        return f"Answer the following {'message' if noun == 'text' else noun}.{suffix}", "the wanted texts are answers"
    aspect = _aspect(examples)
    about = "" if aspect is None else f" about this aspect: {{{aspect}}}"
    if facts.wanted.median > 0.8 * facts.documents.median:
        return (
            f"Rewrite the following {noun}{about}.{suffix}",
            "the wanted texts are as long as the documents; say here what is wanted of them",
        )
    sentences = facts.wanted_sentences
    if sentences < len(_NUMBERS):
        length = f"in {_NUMBERS[sentences]} sentence{'' if sentences == 1 else 's'}"
        reason = f"most wanted texts have {sentences} sentence{'' if sentences == 1 else 's'}"
    else:
        length = f"in about {_rounded(facts.wanted_words, 10)} words"
        reason = f"the wanted texts have about {facts.wanted_words} words"
    return f"Summarize the following {noun} {length}{about}.{suffix}", reason


def _labels(examples: Sequence[Example]) -> list[str] | None:
    """The wanted texts, if they are a few short ones that come again and again."""
    counts = Counter(" ".join(example.references[0].split()) for example in examples)
    if not 2 <= len(counts) <= _MOST_LABELS or len(examples) < 5 * len(counts):
        return None
    labels = sorted(counts, key=str.casefold)
    return labels if all(len(label.split()) <= 3 and not set("{}") & set(label) for label in labels) else None


def _aspect(examples: Sequence[Example]) -> str | None:
    """A column that says which of several texts about one document is wanted: rows of a document differ in it.

    Only if several rows are the rule: a document that is there twice by mistake often has another number or year.
    """
    groups = Counter(example.group for example in examples)
    if 2 * sum(count > 1 for count in groups.values()) < len(groups):
        return None
    for name in examples[0].fields:
        values = {example.fields.get(name) for example in examples}
        pairs = {(example.group, example.fields.get(name)) for example in examples}
        if 2 <= len(values) <= 20 and None not in values and len(pairs) == len(examples):
            return name
    return None
