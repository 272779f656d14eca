"""Token ids equal those of a call of the tokenizer: computed, cached, or as part of a cached split."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiny import sentence
from tuneoff import cache, models, prompts, tokenization
from tuneoff.data import StoredExamples, load_dataset, take_fraction
from tuneoff.prompts import Prompter, Prompting
from tuneoff.spec import DataSpec, ModelSpec, PromptSpec

KINDS = ("byte_bpe", "word_piece", "unigram", "bert_in_python")
PIECES = [
    "stop <|end|>",
    "<|user|>",
    "<s>",
    "[CLS]",
    "[SEP] x",
    " ",
    "\n\n",
    "é😀",
    "\u2028",
    "the paper",
    "A",
    "'s",
    "▁x",
]


def make(kind: str, folder: Path) -> Any:
    """A tokenizer of each family, with special tokens that it would put around a text if tokenized."""
    from tokenizers import Tokenizer, pre_tokenizers, processors, trainers
    from tokenizers import models as families
    from transformers import BertTokenizerLegacy, PreTrainedTokenizerFast

    special = ["[UNK]", "[CLS]", "[SEP]", "<|end|>", "<|user|>", "<s>"]
    texts = [sentence(index, 30) for index in range(50)] + PIECES
    if kind == "bert_in_python":
        words = sorted({word for text in texts for word in text.lower().split()} | {"##s", "##e"})
        (folder / "vocab.txt").write_text("\n".join([*special, *words]) + "\n", encoding="utf-8")
        return BertTokenizerLegacy(str(folder / "vocab.txt"), additional_special_tokens=special[3:], pad_token="<s>")
    family, trainer, before = {
        "byte_bpe": (
            families.BPE(),
            trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ),
        "word_piece": (
            families.WordPiece(unk_token="[UNK]"),
            trainers.WordPieceTrainer(vocab_size=400, special_tokens=special, show_progress=False),
            pre_tokenizers.BertPreTokenizer(),
        ),
        "unigram": (
            families.Unigram(),
            trainers.UnigramTrainer(
                vocab_size=200, special_tokens=special, unk_token="[UNK]", show_progress=False
            ),
            pre_tokenizers.Metaspace(),
        ),
    }[kind]  # fmt: skip
    backend = Tokenizer(family)
    backend.pre_tokenizer = before
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", backend.token_to_id("[CLS]")), ("[SEP]", 2)]
    )
    backend.enable_truncation(5)
    backend.enable_padding(length=40)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|end|>", unk_token="[UNK]", additional_special_tokens=["<|user|>", "<s>"]
    )


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make(request.param, tmp_path_factory.mktemp("tokenizer"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(texts=st.lists(st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=6).map("".join), max_size=5))
def test_token_ids_equal_those_of_a_direct_call(tokenizer: Any, texts: list[str]) -> None:
    def plain(part: list[str]) -> list[list[int]]:
        found = tokenizer(part, add_special_tokens=False, split_special_tokens=True, verbose=False)
        return cast(list[list[int]], found["input_ids"])

    expected = plain(texts) if texts else []
    made = tokenization.tokenize(tokenizer, texts)
    assert [made.ids(index) for index in range(len(made))] == expected
    assert [made.ids(index, 2) for index in range(len(made))] == [ids[:2] for ids in expected]
    assert made.lengths.tolist() == [len(ids) for ids in expected]
    # A unigram model may choose a special token like any other token, split or not.
    if tokenizer.is_fast and type(tokenizer.backend_tokenizer.model).__name__ != "Unigram":
        specials = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        assert not any(specials & set(ids) for ids in expected)


def test_the_batch_size_does_not_matter(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [sentence(index, index % 20) for index in range(40)]
    whole = tokenization.tokenize(tokenizer, texts)
    for batch_texts, characters in ((1, 10**6), (7, 10**6), (1000, 50)):
        monkeypatch.setattr(tokenization, "_BATCH_TEXTS", batch_texts)
        monkeypatch.setattr(tokenization, "_BATCH_CHARACTERS", characters)
        parts = tokenization.tokenize(tokenizer, texts)
        assert [parts.ids(index) for index in range(40)] == [whole.ids(index) for index in range(40)]


def test_the_fingerprint_depends_on_the_content_of_a_tokenizer(tmp_path: Path) -> None:
    one, other = make("byte_bpe", tmp_path), make("byte_bpe", tmp_path)
    assert tokenization.tokenizer_fingerprint(one) == tokenization.tokenizer_fingerprint(other) is not None
    other.add_tokens(["paper"])
    assert tokenization.tokenizer_fingerprint(one) != tokenization.tokenizer_fingerprint(other)
    assert tokenization.tokenizer_fingerprint(make("bert_in_python", tmp_path)) is None

    class Own(type(one)):  # type: ignore[misc]
        """Could change texts in any way."""

    one.__class__ = Own
    assert tokenization.tokenizer_fingerprint(one) is None


@pytest.fixture
def data_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TUNEOFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "WORTH_CACHING_BYTES", 0)
    monkeypatch.setattr("tuneoff.prompts.WORTH_CACHING_BYTES", 0)
    path = tmp_path / "a.jsonl"
    rows = [
        {"document": f"{n} {sentence(n, 3 * (n % 30))}", "summary": sentence(n, 1 + n % 40), "aspect": f"x{n % 3}"}
        for n in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


PROMPTS = (
    {"instruction": "Say it."},
    {"instruction": "The {aspect}.", "cue": ""},
    {"instruction": "Say it.", "max_length": 48},
)


@pytest.mark.parametrize("prompt", PROMPTS, ids=str)
@pytest.mark.parametrize("with_target", [True, False])
def test_cached_token_ids_give_the_same_rows(
    data_file: str, tiny_model: Callable[[str], Path], prompt: dict[str, Any], with_target: bool
) -> None:
    tokenizer = models.load_tokenizer(ModelSpec(name=str(tiny_model("llama"))))
    train = load_dataset(DataSpec(train_file=data_file)).train
    part = take_fraction(train, 0.3, 0)

    def rows(examples: Any, shots: int = 0) -> Any:
        prompting = Prompting(shots=tuple(train[:shots]))
        prompter = Prompter(tokenizer, PromptSpec(**prompt), max_new_tokens=4, prompting=prompting)
        encoded, overlong = prompter.encode(examples, with_target=with_target)
        assert encoded.lengths.tolist() == [len(row.prompt) + len(row.target) for row in encoded]
        assert encoded.truncated_tokens.tolist() == [row.truncated_tokens for row in encoded]
        assert list(encoded[1::2]) == list(encoded)[1::2]
        assert not with_target or bool(overlong) == (prompt.get("max_length") == 48)
        return list(encoded), overlong

    for shots in (0, 2):
        expected, of_part = rows(list(train), shots), rows(list(part), shots)  # lists have no cache key
        assert rows(part, shots) == of_part  # cached by itself
        assert rows(train, shots) == rows(train, shots) == expected
        assert rows(part, shots) == of_part  # now as part of the cached split


def test_cached_texts_are_not_tokenized_again(
    data_file: str, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = models.load_tokenizer(ModelSpec(name=str(tiny_model("llama"))))
    train = load_dataset(DataSpec(train_file=data_file)).train
    assert isinstance(train, StoredExamples)
    tokenized: list[str] = []
    original = tokenization.tokenize_as_plain_text

    def record(tokenizer: Any, texts: list[str]) -> list[list[int]]:
        tokenized.extend(texts)
        return original(tokenizer, texts)

    monkeypatch.setattr(tokenization, "tokenize_as_plain_text", record)

    def texts_for(examples: Any, **prompt: Any) -> int:
        tokenized.clear()
        Prompter(tokenizer, PromptSpec(**prompt), max_new_tokens=4).encode(examples, with_target=True)
        documents = {example.document for example in train}
        return len(documents & set(tokenized))

    part = take_fraction(train, 0.3, 0)
    assert texts_for(part) == len(part)
    assert texts_for(part) == 0
    assert texts_for(train) == len(train)
    assert texts_for(train, instruction="Other words.", max_length=100, cue="") == 0  # the frame is not cached
    assert texts_for(take_fraction(train, 0.5, 1)) == 0
    tokenizer.add_tokens(["paper"])
    assert texts_for(train) == len(train)


def test_a_chat_template_changes_targets_only(data_file: str, tiny_model: Callable[[str], Path]) -> None:
    tokenizer = models.load_tokenizer(ModelSpec(name=str(tiny_model("llama"))))
    train = load_dataset(DataSpec(train_file=data_file)).train
    tokenizer.chat_template = "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}"
    for template, prefix in (("plain", " "), ("chat", ""), ("plain", " ")):
        rows, _ = Prompter(tokenizer, PromptSpec(template=template), max_new_tokens=4).encode(train, with_target=True)
        assert tokenizer.decode(rows[0].target) == f"{prefix}{train[0].references[0]}<|end|>"


def test_a_changed_prompts_module_uses_no_cached_token_ids(
    data_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`prompts.py` decides about the texts of targets, so a new version must not use cached ones."""
    examples = load_dataset(DataSpec(train_file=data_file)).train
    tokenizer = make("byte_bpe", tmp_path)

    def count() -> int:
        Prompter(tokenizer, PromptSpec(max_length=200), max_new_tokens=8).encode(examples, with_target=True)
        return len(list((cache.cache_folder() / "tokens").iterdir()))

    assert count() == count() == 2  # documents and targets
    monkeypatch.setattr(prompts, "_prompting_code", lambda: "a later version")
    assert count() == 4
