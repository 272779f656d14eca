"""The page of `tuneoff try`: a document goes in, the texts of all methods come out side by side."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from tuneoff.report.escaping import embedded_json
from tuneoff.report.templates import read_resource, security_policy, template_environment


def try_page(name: str, methods: Mapping[str, str], fields: Sequence[str]) -> str:
    """The page as HTML. `methods` are titles by name, `fields` the names of fields that each document needs."""
    style, script = read_resource("try.css"), read_resource("escaping.js") + read_resource("try.js")
    policy = f"{security_policy([script], style)}; connect-src 'self'"
    template = template_environment().from_string(read_resource("try.html.j2"))
    return template.render(
        policy=policy,
        name=name,
        fields=fields,
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        methods=Markup(embedded_json([{"name": key, "title": title} for key, title in methods.items()])),  # noqa: S704 - escaped there
    )
