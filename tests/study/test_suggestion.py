"""A suggestion fits its data, and what the user has set stays."""

import json
from pathlib import Path

import pytest

from tiny import sentence
from tuneoff.data import load_dataset
from tuneoff.models import load_tokenizer
from tuneoff.spec import DataSpec, ModelSpec, StudySpec
from tuneoff.study import resources
from tuneoff.study.data_facts import look_at_texts
from tuneoff.study.suggestion import Suggestion, suggest
from tuneoff.study.task_words import follow_task

ONE_SENTENCE = "Summarize the following text in one sentence."
GERMAN = "Der Bericht ist für das Haus und die Leute, die es nicht mit sich auf den Weg nehmen. "


def rows(document: str, wanted: str, texts: list[tuple[str, str]], **fields: list[str]) -> list[dict[str, str]]:
    return [
        {document: text, wanted: short, **{name: values[at % len(values)] for name, values in fields.items()}}
        for at, (text, short) in enumerate(texts)
    ]


def summaries(count: int = 40, words: int = 60) -> list[tuple[str, str]]:
    return [(f"Text {at}. {sentence(at, words)}", sentence(at, 6)) for at in range(count)]


@pytest.fixture
def suggestion(tmp_path: Path, tiny_model):
    def make(found: list[dict[str, str]], *, given: tuple[str, ...] = (), **settings: object) -> Suggestion:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
        model = ModelSpec(name=str(tiny_model("gpt_neo")))
        document, wanted, *_ = found[0]
        data = DataSpec(train_file=str(path), document_column=document, summary_column=wanted)
        study = StudySpec.model_validate({"data": data, "models": (model,), **settings})
        return suggest(study, load_dataset(study.data), load_tokenizer(model), given)

    return make


@pytest.mark.parametrize(
    ("found", "instruction"),
    [
        (rows("document", "summary", summaries()), ONE_SENTENCE),
        (rows("dialogue", "summary", summaries()), "Summarize the following dialogue in one sentence."),
        (
            rows("document", "summary", [(text, f"{short} {short} It is so.") for text, short in summaries()]),
            "Summarize the following text in three sentences.",
        ),
        (rows("email", "subject", summaries()), "Write a subject line for the following email."),
        (rows("prompt", "completion", summaries()), "Answer the following message."),
        (
            rows("text", "summary", [(text, ("good", "bad")[at % 2]) for at, (text, _) in enumerate(summaries())]),
            "Choose the label of the following text: bad, good.",
        ),
        (
            rows("text", "summary", [(text, GERMAN) for text, _ in summaries()]),
            "Translate the following text into German.",
        ),
        (
            rows("text", "summary", [(GERMAN * 5 + str(at), f"{at} {GERMAN}") for at in range(40)]),
            "Summarize the following text in one sentence. Write in German.",
        ),
        (
            rows("article", "summary", [pair for pair in summaries(30) for _ in "ab"], aspect=["method", "outcome"]),
            "Summarize the following article in one sentence about this aspect: {aspect}.",
        ),
        # one document twice by mistake, with another year
        (rows("text", "summary", [*summaries(), summaries()[3]], year=["2015", "2016", "2017"]), ONE_SENTENCE),
        (rows("text", "summary", [(text, text[::-1]) for text, _ in summaries()]), "Rewrite the following text."),
    ],
)
def test_the_instruction_follows_from_columns_and_texts(suggestion, found, instruction: str) -> None:
    made = suggestion(found)
    assert made.study.prompt.instruction == instruction
    assert made.why["instruction"]


def test_lengths_leave_room_for_most_texts(suggestion) -> None:
    made = suggestion(rows("document", "summary", summaries()))
    study, facts = made.study, made.facts
    assert study.generate.max_new_tokens % 16 == 0
    assert study.generate.max_new_tokens > facts.wanted.most
    assert study.prompt.max_length % 64 == 0
    assert facts.cut is not None
    assert facts.cut <= 0.05
    long = suggestion(rows("document", "summary", [(sentence(at, 3000), sentence(at, 6)) for at in range(40)]))
    assert long.study.prompt.max_length == 512  # the model has no more positions
    assert "all that the model has positions for" in long.why["max_length"]
    assert long.facts.cut == 1


def test_what_the_user_has_set_stays(suggestion) -> None:
    given = {"seeds": 1, "methods": ("zero_shot", "lora"), "prompt": {"instruction": "Say it.", "max_length": 200}}
    names = ("seeds", "methods", "instruction", "max_length")
    made = suggestion(rows("document", "summary", summaries()), given=names, **given)
    assert made.study.seeds == 1
    assert made.study.methods == ("zero_shot", "lora")
    assert (made.study.prompt.instruction, made.study.prompt.max_length) == ("Say it.", 200)
    assert not set(names) & set(made.why)
    assert made.study.trials == 2


def test_a_study_that_stops_when_it_is_settled_keeps_its_seeds(suggestion) -> None:
    made = suggestion(rows("document", "summary", summaries(words=5)), given=("until_settled",), until_settled=True)
    assert made.study.seeds == 6
    assert "seeds" not in made.why


def test_methods_that_this_machine_cannot_carry_out_are_left_out(suggestion, monkeypatch: pytest.MonkeyPatch) -> None:
    found = rows("document", "summary", summaries(words=15))
    assert suggestion(found).study.methods == ("zero_shot", "few_shot", "soft_prompt", "lora", "full")
    parameters = []
    real = resources.check_memory

    def small(spec: ModelSpec, count: int, method: str, _there: int) -> None:
        parameters.append(count)
        real(spec, count, method, 8 * count)

    monkeypatch.setattr(resources, "check_memory", small)
    made = suggestion(found)
    assert made.study.methods == ("zero_shot", "few_shot", "soft_prompt", "lora", "last_layers")
    assert list(made.left_out) == ["full"]
    assert "needs at least" in made.left_out["full"]
    assert parameters


def test_few_shot_is_left_out_where_its_prompts_may_not_fit(suggestion) -> None:
    made = suggestion(rows("document", "summary", summaries()))
    needed = 3 * made.study.prompt.max_length
    assert needed > 512
    reason = f"prompts with 2 examples may need {needed} tokens, and the model has 512 positions"
    assert made.left_out == {"few_shot": reason}
    assert "few_shot" not in made.study.methods


def test_long_wanted_texts_leave_half_of_the_prompt_to_the_document(suggestion) -> None:
    made = suggestion(rows("document", "summary", [(sentence(at, 900), sentence(at, 700)) for at in range(40)]))
    assert (made.study.prompt.max_length, made.study.generate.max_new_tokens) == (512, 256)
    assert "documents need room too" in made.why["max_new_tokens"]


def test_one_long_wanted_text_does_not_decide_on_the_length(suggestion) -> None:
    usual = suggestion(rows("document", "summary", summaries(40)))
    with_one = suggestion(rows("document", "summary", [*summaries(39), ("A text.", sentence(1, 400))]))
    assert with_one.study.prompt.max_length == usual.study.prompt.max_length


def test_few_documents_give_a_larger_test(suggestion) -> None:
    assert suggestion(rows("document", "summary", summaries(20, words=5))).study.data.test_share == 0.5  # 10 are needed
    assert suggestion(rows("document", "summary", summaries(40, words=5))).study.data.test_share == 0.3
    assert suggestion(rows("document", "summary", summaries(500, words=5))).study.data.test_share == 0.2
    assert suggestion(rows("document", "summary", summaries(1200, words=5))).study.data.test_share == 0.1


def test_few_examples_give_more_epochs(suggestion) -> None:
    made = suggestion(rows("document", "summary", summaries(120, words=5)))
    assert made.study.train.epochs == 5.0
    assert made.why["epochs"] == "one epoch has fewer than 50 steps"
    assert suggestion(rows("document", "summary", summaries(700, words=5))).study.train.epochs == 1.0
    assert suggestion(rows("document", "summary", summaries(40)), given=("epochs",)).study.train.epochs == 1.0


def test_rouge_counts_the_words_of_the_language(suggestion) -> None:
    made = suggestion(rows("text", "summary", [(GERMAN * 5 + str(at), f"{at} {GERMAN}") for at in range(40)]))
    assert made.study.score.words == "unicode"
    chinese = "本文的方法是一种用少量例子训练模型的新方法"
    made = suggestion(rows("text", "summary", [(chinese * 9 + str(at), chinese + str(at)) for at in range(40)]))
    assert made.study.score.words == "characters"


def test_facts_are_of_the_data_as_the_study_divides_it(suggestion) -> None:
    """The same that a dry run of the suggestion says, also where more test documents are suggested."""
    found = suggestion(rows("document", "summary", [(sentence(at, 5 + at), sentence(at, 6)) for at in range(60)]))
    study = found.study
    assert study.data.test_share == 0.3
    divided = load_dataset(study.data)
    assert found.facts == look_at_texts(follow_task(study), divided, load_tokenizer(study.models[0]))
    assert study.train.epochs == min(5, -(-50 * study.train.batch_size // len(divided.train)))
