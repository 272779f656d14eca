from pathlib import Path

from tuneoff.data.load import load_dataset
from tuneoff.data.source_table import SourceRow, UnreadableRow
from tuneoff.data.stories import is_story_folder, open_stories
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
    first, without, damaged = table.rows
    assert first == SourceRow(
        1,
        {
            "id": "a",
            "article": "(CNN) A ship left port 1.\n\nIt sank.",
            "highlights": "Ship 1 sank\nIt had left port",
        },
    )
    assert without == UnreadableRow(2, "b.story has no line @highlight")
    assert damaged == UnreadableRow(3, "not UTF-8")
    assert [
        row.values["article"]
        for row in open_stories(tmp_path, "latin-1")["train"][0].rows
        if isinstance(row, SourceRow)
    ][1] == "café"


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
