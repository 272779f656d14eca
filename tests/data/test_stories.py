from pathlib import Path

import pytest

from tuneoff.data.load import load_dataset
from tuneoff.data.source_table import SourceRow, UnreadableRow
from tuneoff.data.stories import is_story_folder, open_stories
from tuneoff.errors import UserError
from tuneoff.spec import DataSpec

STORY = "(CNN) A ship left port {}.\n\nIt sank.\n\n@highlight\n\nShip {} sank\n\n@highlight\n\nIt had left port\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_text_and_highlights(tmp_path: Path) -> None:
    write(tmp_path / "a.story", STORY.format(1, 1))
    write(tmp_path / "b.story", "A text without an end")
    (tmp_path / "c.story").write_bytes(b"caf\xe9\n@highlight\nx\n")
    write(tmp_path / ".hidden.story", STORY)
    assert is_story_folder(tmp_path)
    [table] = open_stories(tmp_path)["train"]
    first, without, _ = table.rows
    assert first == SourceRow(
        1,
        {
            "id": "a",
            "article": "(CNN) A ship left port 1.\n\nIt sank.",
            "highlights": "Ship 1 sank\nIt had left port",
        },
    )
    assert without == UnreadableRow(2, "b.story has no @highlight line")
    assert [
        row.values["article"]
        for row in open_stories(tmp_path, "latin-1")["train"][0].rows
        if isinstance(row, SourceRow)
    ][1] == "café"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"A text without an end", "has no @highlight line.*write a line @highlight"),
        ("Русский текст\n@highlight\nx\n".encode("cp1251"), "not UTF-8.*--encoding"),
    ],
)
def test_stories_that_cannot_be_read_are_refused_with_the_way_out(tmp_path: Path, content: bytes, reason: str) -> None:
    for number in range(20):
        (tmp_path / f"{number}.story").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        load_dataset(DataSpec(source=str(tmp_path)))


def test_a_folder_without_a_story_to_train_on(tmp_path: Path) -> None:
    write(tmp_path / ".cache" / "a.story", STORY)
    write(tmp_path / "._b.story", STORY)
    assert not is_story_folder(tmp_path)
    write(tmp_path / "test" / "1.story", STORY)
    with pytest.raises(UserError, match="no story to train on, because the name of each says test"):
        load_dataset(DataSpec(source=str(tmp_path)))


def test_stories_of_another_encoding(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number}.story").write_bytes(STORY.format(number, "é").encode("utf-16"))
    assert "Ship é sank" in load_dataset(DataSpec(source=str(tmp_path))).train[0].references[0]
    with pytest.raises(UserError, match="there is no such encoding"):
        load_dataset(DataSpec(source=str(tmp_path), encoding="utf8x"))


def test_a_folder_of_stories_is_a_data_set(tmp_path: Path) -> None:
    for number in range(30):
        write(tmp_path / "train" / f"{number}.story", STORY.format(number, number))
    for number in range(30, 40):
        write(tmp_path / "test" / f"{number}.story", STORY.format(number, number))
    dataset = load_dataset(DataSpec(source=str(tmp_path)))
    assert len(dataset.test) == 10
    assert len(dataset.train) + len(dataset.validation) == 30
    assert dataset.test[0].references == (f"Ship {dataset.test[0].id} sank\nIt had left port",)
    assert not is_story_folder(tmp_path / "nowhere")
