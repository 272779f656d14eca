"""The list of methods, and the page of one in `tuneoff methods NAME` and `tuneoff train NAME --help`."""

import json

import pytest

from tuneoff import methods
from tuneoff.cli import main
from tuneoff.cli.method_flags import method_flags
from tuneoff.cli.method_pages import method_pages, methods_as_json
from tuneoff.errors import UserError


def test_the_page_of_lora_has_its_flags_defaults_and_ranges() -> None:
    title, use, *rows = method_pages(["lora"]).splitlines()
    assert title.startswith("lora: LoRA. Hu et al. 2021")
    assert use == "  flags of tuneoff train lora; in tuneoff compare: --set lora.r=16"
    words = {row.split()[0]: " ".join(row.split()[1:]) for row in rows}
    assert words["--r"] == "16 a whole number from 1 to 65536; also --lora-r, --lora-rank, --rank"
    assert words["--learning-rate"].startswith("0.001 above 0 and at most 100; trials search from 0.0001 to 0.003")
    assert words["--target-modules"].startswith("all-linear names, separated by commas; also ")


@pytest.mark.parametrize("name", methods.METHODS)
def test_every_flag_of_a_method_is_on_its_page(name: str) -> None:
    page = method_pages([name.replace("_", "-")])
    assert all(flag in page for flag in method_flags(name)), page
    assert all(f"--{key.replace('_', '-')}" in page for key in methods.defaults(name))


def test_an_unknown_method_is_one_sentence() -> None:
    with pytest.raises(UserError, match="did you mean lora"):
        method_pages(["loar"])


def test_the_commands_that_show_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "lora"]) == 0
    assert capsys.readouterr().out.strip() == method_pages(["lora"])
    assert main(["train", "lora", "--help"]) == 0
    help_page = capsys.readouterr().out
    assert help_page.rstrip().endswith(method_pages(["lora"]))
    assert "<bool>" not in help_page, "a switch takes no value"
    assert main(["methods", "loar"]) == 2
    assert capsys.readouterr().err.startswith("tuneoff: unknown method 'loar': did you mean lora?")


def test_the_first_help_page_is_not_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["--help"]) == 0
    assert "..." not in capsys.readouterr().out.partition("Commands:")[2]


def test_methods_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    text = capsys.readouterr().out
    assert main(["methods", "--json"]) == 0
    for method in json.loads(capsys.readouterr().out):
        for key in method["hyperparameters"]:
            assert f"{method['name']}.{key} = " in text
    assert "peft:TYPE" in text


def test_methods_as_data_can_be_written_as_json() -> None:
    listed = methods_as_json()
    assert json.loads(json.dumps(listed)) == json.loads(json.dumps(listed, allow_nan=False))
    assert [method["name"] for method in listed] == list(methods.METHODS)
    assert all(bool(method["search"]) == method["trains"] for method in listed)


def test_a_setting_of_a_method_has_the_page_of_its_method() -> None:
    assert method_pages(["lora@r=64"]) == method_pages(["lora"])
    assert [page["name"] for page in methods_as_json(["lora@r=64"])] == ["lora"]
