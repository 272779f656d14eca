"""Templates escape what they print, and the policy allows only the scripts that a page has."""

import base64
import hashlib

import pytest
from jinja2 import UndefinedError

from tuneoff.report.templates import read_resource, security_policy, template_environment


def digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_the_policy_names_each_script_and_the_style_by_hash() -> None:
    rules = dict(rule.split(" ", 1) for rule in security_policy(["a()", "b('é')"], "p {}").split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"].split() == [f"'sha256-{digest(script)}'" for script in ("a()", "b('é')")]
    assert rules["style-src"] == f"'sha256-{digest('p {}')}'"
    assert not any("unsafe" in rule or "http" in rule for rule in rules.values())


def test_templates_escape_what_they_print() -> None:
    template = template_environment().from_string("<p>{{ name }}</p>")
    assert template.render(name="<script>'\"&") == "<p>&lt;script&gt;&#39;&#34;&amp;</p>"


def test_a_template_names_no_variable_that_is_not_given() -> None:
    with pytest.raises(UndefinedError):
        template_environment().from_string("{{ nobody_gave_this }}").render()


def test_control_codes_can_be_escaped_in_a_template() -> None:
    shown = template_environment().from_string("{{ name | escape_controls }}").render(name="a\u202eb")
    assert "\u202e" not in shown
    assert shown != "ab"


def test_resources_of_the_package_are_read() -> None:
    with pytest.raises(FileNotFoundError):
        read_resource("no_such_file.css")
